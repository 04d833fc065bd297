"""The same user asked of several versions at once: the champion beside a challenger, or beside what served before.

A version that does not serve is brought up on demand and kept on a small shelf: a bundle costs its size in memory and
some seconds to load, so only the last few stay. Nothing here answers anybody but the console.
"""

import threading
from collections import OrderedDict
from typing import Any

from pydantic import BaseModel

from penstock.errors import RegistryError
from penstock.serving import api
from penstock.serving.answers import Problematic
from penstock.serving.recommend import recommend_from
from penstock.serving.runtime import Runtime
from penstock.serving.served import Served

KEPT = 2
MOST = 3


class VersionAnswer(BaseModel):
    """One version's list for the user."""

    number: str
    digest: str
    known_user: bool
    items: list[api.RecommendedItem]


class Comparison(api.Answer):
    """The lists in the order of the versions asked for; `shared`: how many items all of them hold."""

    user_id: str | None
    lists: list[VersionAnswer]
    shared: int


class Shelf:
    """Versions brought up for comparison, the least recently used one going first. Any thread."""

    def __init__(self, runtime: Runtime, kept: int = KEPT) -> None:
        self.runtime, self.kept = runtime, kept
        self._loading = threading.Lock()
        self._versions: OrderedDict[tuple[str, str], Served] = OrderedDict()

    def of(self, number: str) -> Served:
        """A version, loaded where it is not.

        Raises:
            Problematic: there is none of that number; 404. Its bundle was removed to save room; 410.
            BundleError: its bundle is not whole.
        """
        served = self.runtime.served
        if served is not None and served.version == number:
            return served
        try:
            version = self.runtime.registry.version(number)
        except RegistryError as error:
            raise Problematic(404, "unknown_version", str(error)) from error
        key = (version.number, version.digest)
        with self._loading:
            found = self._versions.pop(key, None)
            if found is None:
                folder = self.runtime.registry.bundle_dir(version)
                if not folder.exists():
                    why = f"version {number}'s bundle is not kept any more (registry.keep_served, keep_unserved)"
                    raise Problematic(410, "bundle_gone", why)
                found = self.runtime.bring_up(version.number, version.digest, folder)
            self._versions[key] = found
            while len(self._versions) > self.kept:
                self._versions.popitem(last=False)
        return found


def compare(shelf: Shelf, numbers: list[str], body: api.RecommendationRequest, candidates: int) -> dict[str, Any]:
    """Each version's list for one request.

    Raises:
        Problematic: too many versions, or one that labels texts.
        RegistryError, BundleError: a version that is not there or not whole.
    """
    if not 1 <= len(numbers) <= MOST:
        raise Problematic(422, "invalid", f"versions: {len(numbers)} asked for, expected 1 to {MOST} numbers by commas")
    lists = []
    for number in dict.fromkeys(numbers):
        served = shelf.of(number)
        if served.scorer.task != "rank":
            raise Problematic(409, "other_task", f"version {number} labels texts, only ranked lists can be compared")
        shelf.runtime.follow(served)
        with served.lock:
            answer = recommend_from(served, body, candidates, shelf.runtime.clock())
        lists.append({"number": served.version, "digest": served.digest, **answer})
    held = [{item["item_id"] for item in one["items"]} for one in lists]
    return {"user_id": body.user_id, "lists": lists, "shared": len(set.intersection(*held)) if held else 0}
