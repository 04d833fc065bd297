"""Where rows stand among the candidates: sums over events that cost the candidates, not the catalogue.

C candidates, N items, P rows asked for, K weightings.
"""

import numpy as np
from numpy.typing import NDArray

DENSE_SHARE = 0.125


class Places:
    """Places of item rows in a list of distinct candidates.

    Few candidates are searched for by bisection; for many a table over all items is cheaper.

    Args:
        row_C: int64, distinct.
        rows: number of items N.
    """

    def __init__(self, row_C: NDArray[np.int64], rows: int) -> None:
        self.count = len(row_C)
        self._table_N: NDArray[np.int64] | None = None
        if self.count > DENSE_SHARE * rows:
            self._table_N = np.full(rows, -1, np.int64)
            self._table_N[row_C] = np.arange(self.count)
        else:
            self._order_C = np.argsort(row_C, kind="stable")
            self._sorted_C = row_C[self._order_C]

    def of(self, row_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each row among the candidates, -1 where it is none: int64 [P]."""
        if self._table_N is not None:
            return self._table_N[row_P]
        if not self.count:
            return np.full(len(row_P), -1, np.int64)
        near_P = np.minimum(np.searchsorted(self._sorted_C, row_P), self.count - 1)
        return np.where(self._sorted_C[near_P] == row_P, self._order_C[near_P], -1)

    def sums(self, row_P: NDArray[np.int64], weight_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each candidate the summed weights of its rows: float64 [C, K]."""
        place_P, known_P = self.known(row_P)
        return self.added(place_P, weight_PK[known_P])

    def known(self, row_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the rows that are candidates, and which of the P rows those are."""
        place_P = self.of(row_P)
        known_P = np.flatnonzero(place_P >= 0)
        return place_P[known_P], known_P

    def added(self, place_P: NDArray[np.int64], weight_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights summed by place: float64 [C, K]."""
        out_CK = np.zeros((self.count, weight_PK.shape[1]))
        for k in range(weight_PK.shape[1]):
            out_CK[:, k] = np.bincount(place_P, weight_PK[:, k], minlength=self.count)
        return out_CK

    def largest(self, row_P: NDArray[np.int64], value_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each candidate the largest value of its rows, 0 where it has none (values are at least 0)."""
        place_P, known_P = self.known(row_P)
        out_CK = np.zeros((self.count, value_PK.shape[1]))
        np.maximum.at(out_CK, place_P, value_PK[known_P])
        return out_CK
