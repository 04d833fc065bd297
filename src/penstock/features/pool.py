"""The best rows by a score that changes where it is touched, without looking at every row each time.

A pool keeps several times as many rows as are asked for. A row outside of it can only come in by being touched (an
event, a new item) or because the rows inside lost more with time; the first is taken in at once, the second when the
pool is made anew, at the latest after REFRESH_S.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

Score = Callable[[float, NDArray[np.int64] | None], NDArray[np.float64]]
"""Scores at a time in seconds, of some rows or (None) of all; -inf: never offered."""

SIZE = 4096
TOUCHED = 8192
REFRESH_S = 60.0
CACHE_S = 1.0
SAMPLE_STEP, SAMPLED, SPARE = 32, 64, 8
"""One score in so many is looked at first, where there are so many times more than are wanted, and some to spare."""


class Pool:
    """See the module.

    Args:
        score: higher is better.
        size: rows kept; a list longer than a quarter of it is made from all rows.
    """

    def __init__(self, score: Score, size: int = SIZE) -> None:
        self._score, self.size = score, size
        self._row_P: NDArray[np.int64] | None = None
        self._touched: set[int] = set()
        self._built_s, self._read_s, self._read_count = -np.inf, -np.inf, 0
        self._top: NDArray[np.int64] | None = None

    def touch(self, row_E: NDArray[np.int64]) -> None:
        """Note that the scores of these rows changed."""
        self._top = None
        if self._row_P is None:
            return
        self._touched.update(row_E.tolist())
        if len(self._touched) > TOUCHED:
            self._row_P = None

    def top(self, at_s: float, count: int) -> NDArray[np.int64]:
        """At most `count` rows at `at_s`, best first, equal ones by row; rows of score -inf are left out."""
        fits = count <= self._read_count and self._read_s <= at_s < self._read_s + CACHE_S
        if self._top is not None and fits:
            return self._top[:count]
        if count * 4 > self.size:
            return best_rows(self._score(at_s, None), count)
        if self._row_P is None or not 0.0 <= at_s - self._built_s <= REFRESH_S:
            row_P = np.sort(best_rows(self._score(at_s, None), self.size))
            self._built_s = at_s
        elif self._touched:
            row_P = _with(self._row_P, np.fromiter(self._touched, np.int64, len(self._touched)))
        else:
            row_P = self._row_P
        self._row_P = row_P
        self._touched.clear()
        self._top = row_P[best_rows(self._score(at_s, row_P), count)]
        self._read_s, self._read_count = at_s, count
        return self._top


def unheld(method: Score) -> Score:
    """`method` without a hold on its object, which holds the pool: a state goes with its last user, not some time
    later, when the garbage collector finds the circle."""
    weak = WeakMethod(method)

    def score(at_s: float, row_P: NDArray[np.int64] | None) -> NDArray[np.float64]:
        bound = weak()
        assert bound is not None
        return bound(at_s, row_P)

    return score


def _with(row_P: NDArray[np.int64], some_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted distinct rows, and distinct others among them; a few events should not cost a sort of the pool."""
    place_T = np.searchsorted(row_P, some_T)
    new_T = some_T[row_P.take(place_T, mode="clip") != some_T] if len(row_P) else some_T
    return np.sort(np.concatenate([row_P, new_T])) if len(new_T) else row_P


def best_rows(score_N: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Places of the `count` largest scores, best first, equal ones by place; -inf is left out."""
    row_P = good_rows(score_N, count)
    score_P = score_N[row_P]
    if score_P.size and score_P.min() == -np.inf:
        row_P = row_P[score_P > -np.inf]
        score_P = score_N[row_P]
    return np.asarray(row_P[np.argsort(-score_P, kind="stable")][:count], np.int64)


def good_rows(score_N: NDArray[np.number[Any]], count: int) -> NDArray[np.int64]:
    """Places of the `count` largest scores and of those that equal the last of them, in the order of places.

    Of many scores a sample says below which one none can be among them; only those above are looked at further.
    """
    if len(score_N) > SAMPLED * (count + SPARE):
        row_P = _from(score_N, _edge(score_N[::SAMPLE_STEP], 2 * count // SAMPLE_STEP + SPARE))
        if len(row_P) >= count:
            score_P = score_N[row_P]
            return row_P[_from(score_P, _edge(score_P, count))]
    return _from(score_N, _edge(score_N, count)) if count < len(score_N) else np.arange(len(score_N))


def _edge(score_N: NDArray[np.number[Any]], count: int) -> Any:
    """The `count`-th largest."""
    place = len(score_N) - count
    return np.partition(score_N, place)[place]


def _from(score_N: NDArray[np.number[Any]], edge: Any) -> NDArray[np.int64]:
    return np.asarray((score_N >= edge).nonzero()[0], np.int64)
