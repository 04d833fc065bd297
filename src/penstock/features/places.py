"""Where rows stand among the candidates: sums over events that cost the candidates, not the catalogue.

C candidates, N items, P rows asked for, K weightings.
"""

import numpy as np
from numpy.typing import NDArray


class PlaceTable:
    """A place for every item, kept from request to request: each writes its own candidates over those of before.

    Numbers only rise, so what an earlier request wrote is recognised and never has to be wiped. Looking a row up is one
    access to memory; bisection among the candidates took five times as long for the entries of a count matrix.
    """

    def __init__(self) -> None:
        self._number_N = np.zeros(0, np.int64)
        self._next = 1

    def of(self, row_C: NDArray[np.int64], rows: int) -> "Places":
        """The places of distinct candidates among `rows` items; good until the next call."""
        start = self._write(row_C, rows)
        return Places(self._number_N, start, len(row_C))

    def representatives(self, row_P: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        """For each of P rows, one place below P where the same row stands, the same one for all of its places."""
        start = self._write(row_P, rows)
        return self._number_N[row_P] - start

    def _write(self, row_P: NDArray[np.int64], rows: int) -> int:
        """Number the rows, whichever of equal ones last; returns the first number."""
        if len(self._number_N) < rows:
            self._number_N, self._next = np.zeros(rows, np.int64), 1
        start, self._next = self._next, self._next + len(row_P)
        self._number_N[row_P] = np.arange(start, self._next)
        return start


class Places:
    """Places of item rows in a list of distinct candidates; made by PlaceTable.

    Args:
        number_N: the number that each item was last given.
        start: the number of the first candidate.
        count: how many candidates there are.
    """

    def __init__(self, number_N: NDArray[np.int64], start: int, count: int) -> None:
        self._number_N, self._start, self.count = number_N, start, count

    def known(self, row_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the rows that are candidates, and which of the P rows those are."""
        place_P = self._number_N[row_P] - self._start
        known_P = np.flatnonzero(place_P >= 0)
        return place_P[known_P], known_P

    def added(self, place_P: NDArray[np.int64], weight_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights summed by place: float64 [C, K]."""
        width = weight_PK.shape[1]
        cell_PK = place_P[:, None] * width + np.arange(width)
        sum_X = np.bincount(cell_PK.ravel(), weight_PK.ravel(), self.count * width)
        return np.asarray(sum_X, np.float64).reshape((self.count, width))  # of nothing it makes whole numbers

    def last(self, place_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each candidate the last of P places that is its own, -1 where none is: int64 [C]."""
        last_C = np.full(self.count, -1)
        np.maximum.at(last_C, place_P, np.arange(len(place_P)))
        return last_C
