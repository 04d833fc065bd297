"""Traffic for a running service, from a log: each visit asks for recommendations, then sends what the visitor did.

Either the log's own events follow (what it says was shown and chosen, at today's time), or those of a simulated visitor
who looks down the list that the service just gave and clicks by the taste that the log shows: the share of each
category among the visitor's clicks, drawn towards everybody's.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import numpy as np
import polars as pl

from penstock.errors import DataError, PenstockError

Clicks = Literal["log", "simulated"]
SHOWN, RECENT = 10, 2_000
CLICK_CHANCE, PLACE_PENALTY = 0.35, 0.15
PRIOR_CLICKS = 4.0
OWN = ("event_id", "user_id", "request_id", "at", "received_at")


@dataclass(frozen=True)
class Visit:
    """What one user did at one time in the log. `after_s`: seconds after the log's first visit."""

    user_id: str
    after_s: float
    query: str | None
    events: tuple[dict[str, Any], ...]


@dataclass
class Played:
    """What came back so far. `versions`: answers by the version that made them; `failures`: by status or error."""

    asked: int = 0
    clicks: int = 0
    accepted: int = 0
    rejected: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    first_reason: str | None = None

    def quantile_ms(self, share: float) -> float | None:
        """The latency that `share` of the newest answers stayed within."""
        return float(np.quantile(self.latency_ms[-RECENT:], share)) if self.latency_ms else None


def visits(events: pl.DataFrame) -> list[Visit]:
    """A log's visits in time order: by request, or by user and time where the log has no requests.

    Raises:
        DataError: there is no event.
    """
    if events.is_empty():
        raise DataError("the log holds no event, so there is nothing to replay")
    keyed = events.with_columns(
        visit=pl.coalesce("request_id", pl.format("{}@{}", "user_id", pl.col("at").dt.truncate("1m").dt.epoch("ms")))
    ).sort("at", "event_id")
    groups = keyed.group_by("visit", maintain_order=True).agg(pl.all())
    first: datetime = keyed["at"][0]
    found = []
    for row in groups.iter_rows(named=True):
        names = [name for name in row if name != "visit"]
        rows = tuple(
            dict(zip(names, values, strict=True)) for values in zip(*(row[name] for name in names), strict=True)
        )
        query = next((one["query"] for one in rows if one["query"]), None)
        found.append(Visit(rows[0]["user_id"], (rows[0]["at"] - first).total_seconds(), query, rows))
    return sorted(found, key=lambda visit: visit.after_s)


class Tastes:
    """How likely a user is to click on a category, by the log."""

    def __init__(self, events: pl.DataFrame, catalogue: pl.DataFrame, seed: int) -> None:
        category = pl.col("category").fill_null("")
        clicks = events.filter(pl.col("kind") != "impression").join(
            catalogue.select("item_id", category), on="item_id", how="inner"
        )
        everybody = clicks["category"].value_counts()
        total = max(1, len(clicks))
        self._common = {name: count / total for name, count in everybody.iter_rows()}
        self._own: dict[str, Counter[str]] = {}
        for user, name in clicks.select("user_id", "category").iter_rows():
            self._own.setdefault(user, Counter())[name] += 1
        self._random = np.random.default_rng(seed)

    def clicked(self, user: str, items: Sequence[dict[str, Any]]) -> list[int]:
        """The places of a list on which this user clicks, at least by chance none."""
        own = self._own.get(user, Counter[str]())
        weight = [
            (own[item["category"] or ""] + PRIOR_CLICKS * self._common.get(item["category"] or "", 0.0))
            / (own.total() + PRIOR_CLICKS)
            for item in items
        ]
        most = max([*self._common.values(), *weight], default=1.0)
        chance = [CLICK_CHANCE * one / most / (1 + PLACE_PENALTY * place) for place, one in enumerate(weight)]
        return [place for place, one in enumerate(chance) if self._random.random() < one]


class Player:
    """Plays visits against a service, one after the other.

    Args:
        client: its base URL is the service's address.
        tastes: of simulated visitors; None: the log's events follow.
    """

    def __init__(self, client: httpx.Client, tastes: Tastes | None = None) -> None:
        self.client, self.tastes, self.played = client, tastes, Played()
        self._run = uuid.uuid4().hex[:8]
        self._count = 0

    def play(self, visit: Visit) -> None:
        """Ask, then send what followed; what fails is counted, and the next visit goes on.

        Raises:
            PenstockError: the service takes no such requests at all, so going on makes no sense.
        """
        body: dict[str, Any] = {"user_id": visit.user_id, "k": SHOWN}
        if visit.query:
            body["query"] = visit.query
        answer = self._post("/v1/recommendations", body)
        if answer is None:
            return
        self.played.asked += 1
        self.played.versions[str(answer["version"])] += 1
        events = self._logged(visit) if self.tastes is None else self._simulated(visit, answer)
        for first in range(0, len(events), 500):
            taken = self._post("/v1/events", {"events": events[first : first + 500]}, timed=False)
            if taken is not None:
                self.played.accepted += taken["accepted"]
                self.played.rejected += len(taken["rejected"])
                if taken["rejected"] and self.played.first_reason is None:
                    self.played.first_reason = taken["rejected"][0]["reason"]

    def _logged(self, visit: Visit) -> list[dict[str, Any]]:
        at = datetime.now(UTC).isoformat()
        self.played.clicks += sum(event["kind"] != "impression" for event in visit.events)
        return [
            {name: value for name, value in event.items() if name not in OWN and value is not None}
            | {"event_id": self._name(), "user_id": event["user_id"], "at": at}
            | ({"request_id": f"{self._run}-{event['request_id']}"} if event["request_id"] else {})
            for event in visit.events
        ]

    def _simulated(self, visit: Visit, answer: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.tastes is not None
        items, at = answer["items"], datetime.now(UTC).isoformat()
        shared = {"user_id": visit.user_id, "at": at, "request_id": answer["request_id"]}
        shown = [
            shared | {"event_id": self._name(), "item_id": item["item_id"], "kind": "impression", "position": place}
            for place, item in enumerate(items)
        ]
        clicked = self.tastes.clicked(visit.user_id, items)
        self.played.clicks += len(clicked)
        return shown + [
            shared | {"event_id": self._name(), "item_id": items[place]["item_id"], "kind": "click"}
            for place in clicked
        ]

    def _name(self) -> str:
        self._count += 1
        return f"replay-{self._run}-{self._count}"

    def _post(self, path: str, body: dict[str, Any], timed: bool = True) -> dict[str, Any] | None:
        began_s = time.perf_counter()
        try:
            answer = self.client.post(path, json=body)
        except httpx.HTTPError as error:
            self.played.failures[type(error).__name__] += 1
            return None
        if answer.is_success:
            if timed:
                self.played.latency_ms.append((time.perf_counter() - began_s) * 1e3)
            found: dict[str, Any] = answer.json()
            return found
        if answer.status_code in (401, 403, 409, 415, 421):
            token = "; PENSTOCK_TOKEN takes a feeder's or an admin's" if answer.status_code in (401, 403) else ""
            raise PenstockError(f"{answer.url}: {_reason(answer)}{token}")
        self.played.failures[f"status {answer.status_code}"] += 1
        return None


def paced(
    found: Sequence[Visit],
    rate: float | None,
    speed: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Visit]:
    """Visits when their turn comes: `rate` a second, or as the log has them but `speed` times faster.

    A visit that comes late does not wait, and does not make the next ones late on purpose.
    """
    began_s = clock()
    for number, visit in enumerate(found):
        due_s = number / rate if rate is not None else (visit.after_s - found[0].after_s) / (speed or 1.0)
        wait_s = began_s + due_s - clock()
        if wait_s > 0:
            sleep(wait_s)
        yield visit


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}, which is no answer of penstock; see what listens there"
