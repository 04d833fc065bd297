"""Held-out requests of earlier rounds, frozen: what a model must not forget.

Kept in the checkpoint as they were then, features and all, without the ids of their users. Rows of items and texts
never move, so they can be ranked again by any later model of the same line. R requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.features.examples import Examples, Labelled
from penstock.metrics import Floats, ndcg_at, request_ranks

DEPTH = 10


@dataclass(frozen=True)
class Anchor:
    """One round's held-out requests.

    Attributes:
        round: the learner's count of rounds when they were held out; until: newest data of that time, ISO-8601.
        unit_R: int64, the user of each request, as a number within this anchor.
        then_R: primary metric of the model that this round made.
    """

    round: int
    until: str
    unit_R: NDArray[np.int64]
    batch: Examples | Labelled
    then_R: Floats


def thinned(anchors: Sequence[Anchor], now_round: int, ages: Sequence[int]) -> list[Anchor]:
    """The oldest anchor between each of `ages` and the next, newest first; an older one than all is let go.

    With ages that grow by a factor there is always one of about each age, and a handful in all. The last age reaches as
    far again as the step before it, so that it has a successor ready.
    """
    edges = sorted(ages)
    step = edges[-1] / edges[-2] if len(edges) > 1 else 2.0
    edges.append(max(int(edges[-1] * step), edges[-1] + 1))
    kept: dict[int, Anchor] = {}
    for anchor in sorted(anchors, key=lambda one: -one.round):
        age = now_round - anchor.round
        place = int(np.searchsorted(edges, age, side="right")) - 1
        if age < edges[0]:
            kept[age - edges[0]] = anchor
        elif place < len(edges) - 1:
            kept[place] = anchor
    return sorted(kept.values(), key=lambda one: -one.round)


def example_ndcg(batch: Examples, score_RC: NDArray[np.float32]) -> Floats:
    """NDCG@10 [R] of each example among its own candidates; relevant is what gained."""
    request_N, place_N = np.nonzero(batch.mask_RC)
    relevant_RC = (batch.gain_RC > 0) & batch.mask_RC
    found = request_ranks(request_N, relevant_RC[request_N, place_N], score_RC[request_N, place_N])
    return ndcg_at(*found, relevant_RC.sum(1), DEPTH)


def spread_out(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` places out of `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.zeros(0, np.int64)
