"""What each user did, oldest first: the only per-user state there is."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEPT_PER_USER = 500


@dataclass(frozen=True)
class History:
    """One user's past, oldest first, L events.

    Attributes:
        row_L: int64, item rows.
        kind_L: int64, index into the specification's kinds.
        at_s_L: float64, seconds since the epoch.
    """

    row_L: NDArray[np.int64]
    kind_L: NDArray[np.int64]
    at_s_L: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row_L)

    def last(self, count: int) -> "History":
        """The most recent `count` events."""
        return History(self.row_L[-count:], self.kind_L[-count:], self.at_s_L[-count:])


EMPTY = History(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


Lists = tuple[list[int], list[int], list[float]]
"""Item rows, kinds and times of one user, oldest first."""


class Histories:
    """The past of every user, at most KEPT_PER_USER events each.

    What was restored stays in the arrays that it came in until its user does something: a version is loaded, and let
    go, without touching every event, and most users do nothing before the next one.
    """

    def __init__(self) -> None:
        self._past: dict[str, Lists | int] = {}  # or the user's place in the restored arrays
        self._restored, self._edge = EMPTY, np.zeros(1, np.int64)
        self._asked: tuple[str, History] | None = None

    def __len__(self) -> int:
        return len(self._past)

    def add(self, user: str, row: int, kind: int, at_s: float) -> None:
        """Put one event in its place; one that comes late stands where it would have stood in training."""
        self._asked = None
        rows, kinds, times = self._lists(user)
        place = len(times) if not times or at_s >= times[-1] else bisect_right(times, at_s)
        rows.insert(place, row)
        kinds.insert(place, kind)
        times.insert(place, at_s)
        if len(rows) > 2 * KEPT_PER_USER:
            for column in (rows, kinds, times):
                del column[:-KEPT_PER_USER]

    def tail(self, user: str, count: int) -> tuple[list[int], list[float]]:
        """The last `count` item rows of `user` and their times in seconds."""
        past = self._past.get(user)
        if past is None:
            return [], []
        if isinstance(past, int):
            last = self._part(past).last(count)
            return last.row_L.tolist(), last.at_s_L.tolist()
        return past[0][-count:], past[2][-count:]

    def of(self, user: str) -> History:
        """The past of `user`, empty for a stranger; one answer asks for the same several times."""
        asked = self._asked
        if asked is None or asked[0] != user:
            asked = self._asked = (user, self._made(user))
        return asked[1]

    def users(self) -> list[str]:
        """Every user with a past."""
        return list(self._past)

    def arrays(self) -> tuple[list[str], dict[str, NDArray[np.float64] | NDArray[np.int64]]]:
        """Users, and the ragged arrays that restore them."""
        pasts = [self.of(user) for user in self._past]
        return list(self._past), {
            "history.length": np.array([len(past) for past in pasts], np.int64),
            "history.row": np.concatenate([past.row_L for past in pasts] or [EMPTY.row_L]),
            "history.kind": np.concatenate([past.kind_L for past in pasts] or [EMPTY.kind_L]),
            "history.at": np.concatenate([past.at_s_L for past in pasts] or [EMPTY.at_s_L]),
        }

    def restore(self, users: list[str], arrays: dict[str, NDArray[np.float64]]) -> None:
        """The inverse of `arrays`.

        Raises:
            ValueError: the arrays are not of one length, or not of these users.
        """
        edge = np.concatenate([[0], np.cumsum(arrays["history.length"].astype(np.int64))])
        rows, kinds = (arrays[f"history.{name}"].astype(np.int64, copy=False) for name in ("row", "kind"))
        times = arrays["history.at"]
        if len(edge) != len(users) + 1 or {len(rows), len(kinds), len(times)} != {int(edge[-1])}:
            raise ValueError(f"histories of {len(edge) - 1} users and {len(rows)} events, names of {len(users)} users")
        self._restored, self._edge = History(rows, kinds, times), edge
        self._past, self._asked = dict(zip(users, range(len(users)), strict=True)), None

    def _made(self, user: str) -> History:
        past = self._past.get(user)
        if past is None:
            return EMPTY
        if isinstance(past, int):
            return self._part(past)
        rows, kinds, times = (column[-KEPT_PER_USER:] for column in past)
        return History(np.array(rows, np.int64), np.array(kinds, np.int64), np.array(times))

    def _part(self, place: int) -> History:
        """The past of the user at a place of the restored arrays."""
        part = slice(*self._edge[place : place + 2].tolist())
        whole = self._restored
        return History(whole.row_L[part], whole.kind_L[part], whole.at_s_L[part])

    def _lists(self, user: str) -> Lists:
        """The past of `user` as lists to be added to."""
        past = self._past.get(user, ([], [], []))
        if isinstance(past, int):
            part = self._part(past)
            past = part.row_L.tolist(), part.kind_L.tolist(), part.at_s_L.tolist()
        self._past[user] = past
        return past
