"""Decayed counts of items that follow one another in the same user's history.

A large batch is folded into a compressed sparse matrix; a small one (the service adds one event at a time) waits in
a dictionary that every read consults too, so both paths give the same numbers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

FOLD_AT = 50_000
MAX_EXPONENT = 100.0


class Cooccurrence:
    """A symmetric, decayed item-by-item count matrix.

    Args:
        half_life_s: of a count, seconds.
        rows: number of items N.
    """

    def __init__(self, half_life_s: float, rows: int = 0) -> None:
        self.half_life_s = half_life_s
        self.origin_s: float | None = None
        self.base_NN = sparse.csr_matrix((rows, rows), dtype=np.float64)
        self.waiting: dict[int, tuple[list[int], list[float]]] = {}
        self.waiting_pairs = 0

    def add(
        self, row_P: NDArray[np.int64], column_P: NDArray[np.int64], at_s_P: NDArray[np.float64], rows: int
    ) -> None:
        """Count P pairs, each in both directions. `rows`: the number of items there are now."""
        if not len(row_P):
            return
        newest_s = float(at_s_P.max())
        if self.origin_s is None:
            self.origin_s = newest_s
        if (newest_s - self.origin_s) / self.half_life_s > MAX_EXPONENT:
            self._fold(rows)
            self.base_NN.data *= 2.0 ** (-(newest_s - self.origin_s) / self.half_life_s)
            self.origin_s = newest_s
        weight_P = np.exp2((at_s_P - self.origin_s) / self.half_life_s)
        if len(row_P) > 2000:
            self._fold(rows)
            both = (np.concatenate([row_P, column_P]), np.concatenate([column_P, row_P]))
            self.base_NN = self.base_NN + sparse.coo_matrix((np.tile(weight_P, 2), both), (rows, rows)).tocsr()
            return
        for row, column, weight in zip(row_P.tolist(), column_P.tolist(), weight_P.tolist(), strict=True):
            for left, right in ((row, column), (column, row)):
                columns, weights = self.waiting.setdefault(left, ([], []))
                columns.append(right)
                weights.append(weight)
        self.waiting_pairs += 2 * len(row_P)
        if self.waiting_pairs > FOLD_AT:
            self._fold(rows)

    def _fold(self, rows: int) -> None:
        if self.base_NN.shape[0] < rows:
            self.base_NN.resize((rows, rows))
        if self.waiting:
            row_P = np.repeat(list(self.waiting), [len(columns) for columns, _ in self.waiting.values()])
            column_P = np.concatenate([columns for columns, _ in self.waiting.values()])
            weight_P = np.concatenate([weights for _, weights in self.waiting.values()])
            self.base_NN = self.base_NN + sparse.coo_matrix((weight_P, (row_P, column_P)), (rows, rows)).tocsr()
            self.waiting, self.waiting_pairs = {}, 0

    def weighted_rows(
        self, row_L: NDArray[np.int64], weight_LK: NDArray[np.float64], at_s: float, rows: int
    ) -> NDArray[np.float64]:
        """For each of K weightings, the weighted sum of L rows of the matrix at `at_s`: float64 [N, K]."""
        out_NK = np.zeros((rows, weight_LK.shape[1]))
        if self.origin_s is None:
            return out_NK
        columns, weights, owners = [], [], []
        pointer, indices, data = self.base_NN.indptr, self.base_NN.indices, self.base_NN.data
        for position, row in enumerate(row_L.tolist()):
            if row < len(pointer) - 1:
                part = slice(pointer[row], pointer[row + 1])
                columns.append(indices[part])
                weights.append(data[part])
                owners.append(np.full(part.stop - part.start, position))
            if row in self.waiting:
                late_columns, late_weights = self.waiting[row]
                columns.append(np.array(late_columns))
                weights.append(np.array(late_weights))
                owners.append(np.full(len(late_columns), position))
        if not columns:
            return out_NK
        column_P, weight_P, owner_P = np.concatenate(columns), np.concatenate(weights), np.concatenate(owners)
        scale = 2.0 ** (-(at_s - self.origin_s) / self.half_life_s)
        for k in range(weight_LK.shape[1]):
            out_NK[:, k] = np.bincount(column_P, weight_P * weight_LK[owner_P, k], minlength=rows) * scale
        return out_NK

    def arrays(self, rows: int) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """What must be kept to restore this object."""
        self._fold(rows)
        origin_s = np.nan if self.origin_s is None else self.origin_s
        return {
            "cooccurrence.data": self.base_NN.data,
            "cooccurrence.indices": self.base_NN.indices.astype(np.int64),
            "cooccurrence.indptr": self.base_NN.indptr.astype(np.int64),
            "cooccurrence.origin": np.array([origin_s]),
        }

    def restore(self, arrays: dict[str, NDArray[np.float64]]) -> None:
        """The inverse of `arrays`."""
        pointer = arrays["cooccurrence.indptr"]
        shape = (len(pointer) - 1, len(pointer) - 1)
        parts = (arrays["cooccurrence.data"], arrays["cooccurrence.indices"], pointer)
        self.base_NN = sparse.csr_matrix(parts, shape)
        origin_s = float(arrays["cooccurrence.origin"][0])
        self.origin_s = None if np.isnan(origin_s) else origin_s
        self.waiting, self.waiting_pairs = {}, 0
