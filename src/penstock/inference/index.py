"""The items nearest to a user by dot product, without looking at all of them: an inverted file over clusters.

Exact below EXACT_BELOW items. Above, items lie in about sqrt(N) lists around centroids (k-means on a sample); a query
scans the lists whose centroids score highest. How many is chosen by measurement when the index is made: the fewest
that find RECALL of the exact best `CHECKED` for queries like those to come. Where those hold more than WORTH_SHARE of
the items, because the vectors lie in no clusters that the queries respect, one product with all of them is quicker
than many with some, and the lists are dropped. New items lie in a list of
their own that every query scans. numpy's matrix products do all of it, in memory order; faiss would add a dependency
for the catalogues beyond a million only. Sivic and Zisserman 2003; Jégou, Douze, Schmid, PAMI 2011.

N items, K lists, E width of a vector, Q queries, P rows scanned.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.features.pool import best_rows

EXACT_BELOW = 100_000
SAMPLE_PER_LIST = 48
ITERATIONS = 6
BLOCK = 65_536
CHECKED = 100
RECALL = 0.99
WORTH_SHARE = 0.6
"""A million items of width 64: lists with 32% of them take 16 ms, with 72% 38 ms, as all of them (busy machine)."""


class VectorIndex:
    """See the module.

    Args:
        vector_NE: float32 item vectors.
        query_QE: float32 queries like those to come, which the number of lists to scan is chosen by; item vectors
            where there are none.
        seed: of the sample that the centroids are made from.
    """

    def __init__(self, vector_NE: NDArray[np.float32], query_QE: NDArray[np.float32], seed: int = 0) -> None:
        self.count, self.lists, self.scanned = len(vector_NE), 0, 0
        self._vector_EN = np.zeros((vector_NE.shape[1], 0), np.float32)
        self._late: list[NDArray[np.float32]] = []
        if self.count >= EXACT_BELOW:
            self._make_lists(vector_NE, query_QE, np.random.default_rng(seed))
        if not self.lists:
            # By columns a product is a third quicker than by rows.
            self._vector_EN = np.ascontiguousarray(vector_NE.T)

    def _make_lists(
        self, vector_NE: NDArray[np.float32], query_QE: NDArray[np.float32], random: np.random.Generator
    ) -> None:
        """Sort the items into lists, if scanning some of them is worth it."""
        self.lists = int(self.count**0.5)
        self._centroid_KE = _centroids(vector_NE, self.lists, random)
        list_N = _nearest_centroid(vector_NE, self._centroid_KE)
        self._row_N = np.argsort(list_N, kind="stable")
        self._edge = np.searchsorted(list_N[self._row_N], np.arange(self.lists + 1)).tolist()
        self._vector_NE = vector_NE[self._row_N]
        if not len(query_QE):
            query_QE = vector_NE[random.choice(self.count, 32, replace=False)]
        self.scanned = self._enough(query_QE)
        if not self.scanned:
            self.lists = 0
            del self._vector_NE, self._row_N, self._centroid_KE, self._edge

    def add(self, vector_BE: NDArray[np.float32]) -> None:
        """Append new items; their rows follow the last."""
        self._late.append(vector_BE)

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items with the largest dot product, best first."""
        if not self.lists or count > self.count // 8:
            return self._exact(vector_E, count)
        row_P, score_P = self._scan(vector_E, self.scanned)
        return np.asarray(row_P[best_rows(score_P, count)])

    def _scan(self, vector_E: NDArray[np.float32], lists: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        near = np.argpartition(-(self._centroid_KE @ vector_E), lists - 1)[:lists].tolist()
        parts = [slice(self._edge[place], self._edge[place + 1]) for place in near]
        score = [self._vector_NE[part] @ vector_E for part in parts]
        rows = [self._row_N[part] for part in parts]
        self._add_late(vector_E, rows, score)
        return np.concatenate(rows), np.concatenate(score)

    def _add_late(
        self, vector_E: NDArray[np.float32], rows: list[NDArray[np.int64]], score: list[NDArray[np.float32]]
    ) -> None:
        if not self._late:
            return
        if len(self._late) > 1:
            self._late = [np.concatenate(self._late)]
        rows.append(self.count + np.arange(len(self._late[0])))
        score.append(self._late[0] @ vector_E)

    def _exact(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        if not self.lists:
            score_N = vector_E @ self._vector_EN
            if self._late:
                score_N = np.concatenate([score_N, *(late_BE @ vector_E for late_BE in self._late)])
            return best_rows(score_N, count)
        rows, score = [self._row_N], [self._vector_NE @ vector_E]
        self._add_late(vector_E, rows, score)
        score_N, row_N = np.concatenate(score), np.concatenate(rows)
        score_N = score_N[order_N := np.argsort(row_N, kind="stable")]  # equal scores go by row
        return np.asarray(row_N[order_N][best_rows(score_N, count)])

    def _enough(self, query_QE: NDArray[np.float32]) -> int:
        """The fewest lists whose scan finds RECALL of the exact best; 0 where that is no less work than all."""
        wanted = [set(self._exact(query_E, CHECKED).tolist()) for query_E in query_QE]
        lists = 4
        while lists < self.lists:
            found = scanned = 0
            for query_E, best in zip(query_QE, wanted, strict=True):
                row_P, score_P = self._scan(query_E, lists)
                scanned += len(row_P)
                found += len(best & set(row_P[best_rows(score_P, CHECKED)].tolist()))
            if scanned > WORTH_SHARE * self.count * len(query_QE):
                return 0
            if found >= RECALL * CHECKED * len(query_QE):
                return lists
            lists += max(2, lists // 2)
        return 0


def _centroids(vector_NE: NDArray[np.float32], lists: int, random: np.random.Generator) -> NDArray[np.float32]:
    """k-means on a sample; a list that nothing is nearest to starts again at a random item."""
    chosen = random.choice(len(vector_NE), min(len(vector_NE), lists * SAMPLE_PER_LIST), replace=False)
    sample_SE = vector_NE[np.sort(chosen)]
    centroid_KE = sample_SE[random.choice(len(sample_SE), lists, replace=False)]
    for _ in range(ITERATIONS):
        list_S = _nearest_centroid(sample_SE, centroid_KE)
        order_S = np.argsort(list_S, kind="stable")
        start_K = np.searchsorted(list_S[order_S], np.arange(lists))
        size_K = np.bincount(list_S, minlength=lists)
        full_K = np.flatnonzero(size_K)
        sum_KE = np.add.reduceat(sample_SE[order_S], start_K[full_K])
        centroid_KE = sample_SE[random.choice(len(sample_SE), lists, replace=False)]
        centroid_KE[full_K] = sum_KE / size_K[full_K, None]
    return centroid_KE


def _nearest_centroid(vector_NE: NDArray[np.float32], centroid_KE: NDArray[np.float32]) -> NDArray[np.int64]:
    """The list of each vector, by Euclidean distance: int64 [N]."""
    half_K = 0.5 * (centroid_KE**2).sum(1)
    parts = [
        np.argmax(vector_NE[start : start + BLOCK] @ centroid_KE.T - half_K, axis=1)
        for start in range(0, len(vector_NE), BLOCK)
    ]
    return np.concatenate(parts)
