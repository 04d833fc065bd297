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
        number_P = self._number_N.take(row_P)
        known_P = (number_P >= self._start).nonzero()[0]
        return number_P[known_P] - self._start, known_P


def added(place_P: NDArray[np.int64], weight_KP: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Weights summed by place, of `count` places: float64 [K, count]."""
    sums = [np.bincount(place_P, weight_P, count) for weight_P in weight_KP]
    return np.array(sums, np.float64)  # of nothing bincount makes whole numbers
