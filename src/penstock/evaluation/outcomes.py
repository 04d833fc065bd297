"""How a stream's rankings came out, kept as the ranks of what was wanted: enough for every metric and every slice.

R scored requests, F pairs of a request and an item that it led to, requests in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError
from penstock.evaluation.comparison import HIT_DEPTH, RANK_DEPTH, RequestMetrics
from penstock.metrics import Floats, Ints, hit_rate_at, mrr_at, ndcg_at, recall_at


@dataclass(frozen=True)
class Wanted:
    """What was asked and what it led to.

    Attributes:
        request_R: int64 ids; user_R: their users; window_R: their protocol windows, 0-based.
        at_s_R: float64, seconds since the epoch.
        owner_F: int64, place of the pair's request among the R.
        item_F: the wanted items.
    """

    request_R: Ints
    user_R: npt.NDArray[Any]
    window_R: Ints
    at_s_R: Floats
    owner_F: Ints
    item_F: npt.NDArray[Any]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, str, int, float, Sequence[str]]]) -> "Wanted":
        """From (id, user, window, seconds, items) in the order of ids."""
        sizes = [len(row[4]) for row in rows]
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.str_),
            np.array([row[2] for row in rows], np.int64),
            np.array([row[3] for row in rows], np.float64),
            np.repeat(np.arange(len(rows)), sizes),
            np.array([item for row in rows for item in row[4]], np.str_),
        )

    def __len__(self) -> int:
        return len(self.request_R)

    def metrics(self, rank_F: Ints, mask_F: npt.NDArray[np.bool_] | None = None) -> RequestMetrics:
        """Figures of rankings that put the wanted items at `rank_F` (from 1; 0: not among the first 100).

        Args:
            mask_F: measure on these pairs alone; requests without any are left out.

        Raises:
            GateError: ranks that do not pair with the wanted items.
        """
        if len(rank_F) != len(self.owner_F) or (len(rank_F) and int(rank_F.min()) < 0):
            raise GateError(f"outcomes: {len(rank_F)} ranks for {len(self.owner_F)} wanted items; rank every request")
        keep_F = np.ones(len(rank_F), bool) if mask_F is None else mask_F
        kept_R, row_F = np.unique(self.owner_F[keep_F], return_inverse=True)
        count_R = np.bincount(row_F, minlength=len(kept_R))
        found_F = (rank_F[keep_F] > 0) & (rank_F[keep_F] <= RANK_DEPTH)
        columns = (row_F[found_F], rank_F[keep_F][found_F], count_R)
        return RequestMetrics(
            self.request_R[kept_R],
            self.user_R[kept_R],
            ndcg_at(*columns, HIT_DEPTH),
            hit_rate_at(*columns, HIT_DEPTH),
            mrr_at(*columns, RANK_DEPTH),
            recall_at(*columns, RANK_DEPTH),
        )


@dataclass(frozen=True)
class Outcome:
    """What one method came to on the wanted items.

    Attributes:
        rank_F: int64, 1 is best, 0 where not among the first 100.
        auc_R: float64, NaN where a request has none.
        earlier_R: int64, events of the user before the request, as far as histories are kept.
        widened_F: ranks when unseen items on offer are candidates too, -1 where that was not measured; None for
            methods that do not measure it.
    """

    rank_F: Ints
    auc_R: Floats
    earlier_R: Ints
    widened_F: Ints | None = None


def gain_of_rank(rank_F: Ints) -> Floats:
    """An item's part of DCG@10: 1 / log2(rank + 1) within the first ten, else 0."""
    inside_F = (rank_F > 0) & (rank_F <= HIT_DEPTH)
    return np.asarray(np.where(inside_F, 1.0 / np.log2(np.maximum(rank_F, 1) + 1.0), 0.0), np.float64)
