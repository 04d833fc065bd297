"""Decayed counts of items that follow one another in the same user's history.

A large batch is folded into a compressed sparse matrix; a small one (the service adds one event at a time) waits in
a dictionary that every read consults too, so both paths give the same numbers.
"""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

FOLD_AT, NEARLY = 20_000, 18_000
"""Pairs that wait until they are folded, and that wait when it is time to fold apart; an event brings at most 40."""
MAX_EXPONENT = 100.0


class PairsFound:
    """Pairs of items as they are found: the earlier one, the later one, when, and the weight of following."""

    def __init__(self) -> None:
        self.left: list[int] = []
        self.right: list[int] = []
        self.at_s: list[float] = []
        self.weight: list[float] = []

    def add(self, left: int, right: int, at_s: float, weight: float) -> None:
        """Take one pair."""
        self.left.append(left)
        self.right.append(right)
        self.at_s.append(at_s)
        self.weight.append(weight)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """All of them, P long each."""
        rows = np.array(self.left, np.int64), np.array(self.right, np.int64)
        return *rows, np.array(self.at_s), np.array(self.weight)


class Cooccurrence:
    """A decayed item-by-item count matrix, symmetric unless directed.

    Args:
        half_life_s: of a count, seconds.
        directed: a pair counts in its row only, not the other way round.
    """

    def __init__(self, half_life_s: float, directed: bool = False) -> None:
        self.half_life_s, self.directed = half_life_s, directed
        self.origin_s: float | None = None
        self.base_NN = sparse.csr_matrix((0, 0), dtype=np.float64)
        self.waiting: dict[int, tuple[list[int], list[float]]] = {}
        self.waiting_pairs = 0

    def add(
        self,
        row_P: NDArray[np.int64],
        column_P: NDArray[np.int64],
        at_s_P: NDArray[np.float64],
        rows: int,
        weight_P: NDArray[np.float64] | None = None,
    ) -> None:
        """Count P pairs, each as its weight (1 where there is none). `rows`: the number of items there are now."""
        if not len(row_P):
            return
        newest_s = float(at_s_P.max())
        if self.origin_s is None:
            self.origin_s = newest_s
        if (newest_s - self.origin_s) / self.half_life_s > MAX_EXPONENT:
            self._fold(rows)
            self.base_NN.data *= 2.0 ** (-(newest_s - self.origin_s) / self.half_life_s)
            self.origin_s = newest_s
        now_P = np.exp2((at_s_P - self.origin_s) / self.half_life_s) * (1.0 if weight_P is None else weight_P)
        if not self.directed:
            row_P, column_P = np.concatenate([row_P, column_P]), np.concatenate([column_P, row_P])
            now_P = np.tile(now_P, 2)
        if len(row_P) > 4000:
            self._fold(rows)
            self.base_NN = self.base_NN + sparse.coo_matrix((now_P, (row_P, column_P)), (rows, rows)).tocsr()
            return
        for row, column, weight in zip(row_P.tolist(), column_P.tolist(), now_P.tolist(), strict=True):
            columns, weights = self.waiting.setdefault(row, ([], []))
            columns.append(column)
            weights.append(weight)
        self.waiting_pairs += len(row_P)
        if self.waiting_pairs > FOLD_AT:
            self._fold(rows)

    def fold_apart(self, rows: int, lock: AbstractContextManager[Any]) -> None:
        """Where many pairs wait, fold them while others read, who then wait for the exchange only.

        A fold of millions of counts takes 20 ms, with the interpreter free for others nearly all of the time.

        Args:
            lock: held by whoever reads; not held by the caller, who sees to it that nobody adds.
        """
        if self.waiting_pairs > NEARLY:
            folded_NN = self._folded(rows)
            with lock:
                self._take(folded_NN)

    def _fold(self, rows: int) -> None:
        self._take(self._folded(rows))

    def _take(self, folded_NN: sparse.csr_matrix) -> None:
        self.base_NN, self.waiting, self.waiting_pairs = folded_NN, {}, 0

    def _folded(self, rows: int) -> sparse.csr_matrix:
        """The matrix, of so many rows, with what waits in it; whoever reads the old one may go on."""
        base_NN = self.base_NN
        if base_NN.shape[0] < rows:
            base_NN = base_NN.copy()
            base_NN.resize((rows, rows))
        if not self.waiting:
            return base_NN
        row_P = np.repeat(list(self.waiting), [len(columns) for columns, _ in self.waiting.values()])
        column_P = np.concatenate([columns for columns, _ in self.waiting.values()])
        weight_P = np.concatenate([weights for _, weights in self.waiting.values()])
        return base_NN + sparse.coo_matrix((weight_P, (row_P, column_P)), (rows, rows)).tocsr()

    def entries(
        self, row_L: NDArray[np.int64], at_s: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """The entries of L rows at `at_s`: columns [P], counts [P], and which of the L rows each stems from [P].

        A column may come more than once; its counts add up.
        """
        pointer = self.base_NN.indptr
        # A row that the matrix does not have yet is clipped to where the last one ends: it has no entries.
        start_L, stop_L = (pointer.take(row_L + end, mode="clip").astype(np.int64) for end in (0, 1))
        length_L = stop_L - start_L
        # One range after the other, without a loop: 100 past items are a hundred rows of the matrix.
        flat_P = (stop_L - length_L.cumsum()).repeat(length_L)
        flat_P += np.arange(len(flat_P))
        columns, counts = self.base_NN.indices.take(flat_P), self.base_NN.data.take(flat_P)
        owners = np.arange(len(row_L)).repeat(length_L)
        if self.waiting:
            late = self._late(row_L)
            pairs = zip((columns, counts, owners), late, strict=True)
            columns, counts, owners = (np.concatenate(pair) for pair in pairs)
        scale = 1.0 if self.origin_s is None else 2.0 ** (-(at_s - self.origin_s) / self.half_life_s)
        return columns, counts * scale, owners

    def _late(self, row_L: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """What waits of L rows, as `entries` gives it, not decayed yet."""
        columns: list[int] = []
        counts: list[float] = []
        owners: list[int] = []
        for place, row in enumerate(row_L.tolist()):
            found = self.waiting.get(row)
            if found is not None:
                columns += found[0]
                counts += found[1]
                owners += [place] * len(found[0])
        return np.array(columns, np.int64), np.array(counts, np.float64), np.array(owners, np.int64)

    def weighted_rows(
        self, row_L: NDArray[np.int64], weight_LK: NDArray[np.float64], at_s: float, rows: int
    ) -> NDArray[np.float64]:
        """For each of K weightings, the weighted sum of L rows of the matrix at `at_s`: float64 [N, K]."""
        column_P, count_P, owner_P = self.entries(row_L, at_s)
        columns = [np.bincount(column_P, count_P * weight_L[owner_P], minlength=rows) for weight_L in weight_LK.T]
        return np.stack(columns, axis=1)

    def arrays(self, prefix: str, rows: int) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """What must be kept to restore this object."""
        self._fold(rows)
        origin_s = np.nan if self.origin_s is None else self.origin_s
        return {
            f"{prefix}.data": self.base_NN.data,
            f"{prefix}.indices": self.base_NN.indices.astype(np.int64),
            f"{prefix}.indptr": self.base_NN.indptr.astype(np.int64),
            f"{prefix}.origin": np.array([origin_s]),
        }

    def restore(self, prefix: str, arrays: dict[str, NDArray[np.float64]]) -> None:
        """The inverse of `arrays`."""
        pointer = arrays[f"{prefix}.indptr"]
        shape = (len(pointer) - 1, len(pointer) - 1)
        parts = (arrays[f"{prefix}.data"], arrays[f"{prefix}.indices"], pointer)
        self.base_NN = sparse.csr_matrix(parts, shape)
        origin_s = float(arrays[f"{prefix}.origin"][0])
        self.origin_s = None if np.isnan(origin_s) else origin_s
        self.waiting, self.waiting_pairs = {}, 0
