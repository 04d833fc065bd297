"""Half-lives and blend weights chosen by what they would have ranked: a seeded random search.

Variants are the same kind of baseline at different half-lives. What is searched over was recorded before, request
by request, so that a trial costs a weighted sum and not another replay. R requests; C candidates; V variants; P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.errors import SettingsError
from penstock.evaluation.baselines.blend import FLOORS, Weighting, shaped, share_of
from penstock.metrics import Floats

DEPTH = 10
KEPT_OF_EACH = 100
"""Candidates kept of each variant: what is in no variant's first hundred is in no blend's first ten."""


@dataclass(frozen=True)
class Recorded:
    """What the variants said about one request.

    Attributes:
        share_VC: float32, `blend.share_of` each variant's scores, of the candidates that at least one ranks high.
        relevant_C: bool.
        n_relevant: relevant items, those that are no candidates among them.
    """

    share_VC: NDArray[np.float32]
    relevant_C: NDArray[np.bool_]
    n_relevant: int


@dataclass(frozen=True)
class Chosen:
    """The best weighting found, the variant taken for each part, and its NDCG@10 on what was recorded."""

    weighting: Weighting
    variants: tuple[int, ...]
    ndcg: float


def record(score_VN: Sequence[Floats], row_C: NDArray[np.int64], relevant: set[int], n_relevant: int) -> Recorded:
    """Keep what a search needs of one request: scores of all items by each variant, candidate and relevant rows.

    `n_relevant` counts relevant items that have no row, too.
    """
    share_VC = np.stack([share_of(score_N)[row_C] for score_N in score_VN]).astype(np.float32)
    kept = np.unique(np.concatenate([np.argsort(-share_C, kind="stable")[:KEPT_OF_EACH] for share_C in share_VC]))
    relevant_C = np.isin(row_C[kept], np.array(sorted(relevant), np.int64))
    return Recorded(np.ascontiguousarray(share_VC[:, kept]), relevant_C, n_relevant)


def ndcg_at_10(score_C: Floats, relevant_C: NDArray[np.bool_], n_relevant: int) -> float:
    """NDCG@10 of one request, gain binary, the ideal over every relevant item; ties in the order of the candidates."""
    best = np.argsort(-score_C, kind="stable")[:DEPTH]
    discount = 1.0 / np.log2(np.arange(2, DEPTH + 2))
    return float((relevant_C[best] * discount[: len(best)]).sum() / discount[: min(n_relevant, DEPTH)].sum())


def variant_ndcg(recorded: Sequence[Recorded]) -> Floats:
    """NDCG@10 of each variant alone, [V]."""
    _check(recorded)
    variants = range(len(recorded[0].share_VC))
    each = [[ndcg_at_10(one.share_VC[v], one.relevant_C, one.n_relevant) for v in variants] for one in recorded]
    return np.asarray(np.mean(each, axis=0), np.float64)


def search_weighting(recorded: Sequence[Recorded], groups: Sequence[Sequence[int]], trials: int, seed: int) -> Chosen:
    """The weighting of the largest NDCG@10: half of the trials anywhere, the other half near the best so far.

    Args:
        groups: for each part the variants to take one of, as rows of `share_VC`.

    Raises:
        SettingsError: nothing was recorded.
    """
    _check(recorded)
    random = np.random.default_rng(seed)
    alone_V = variant_ndcg(recorded)
    first = tuple(max(group, key=lambda variant: float(alone_V[variant])) for group in groups)
    even = Weighting((1.0,) * len(groups), ("log 1e-2",) * len(groups))
    best = Chosen(even, first, _mean_ndcg(recorded, even, first))
    for trial in range(trials):
        near = trial >= trials // 2
        weighting, variants = _near(best, groups, random) if near else _anywhere(groups, random)
        if not any(weighting.weights):
            continue
        ndcg = _mean_ndcg(recorded, weighting, variants)
        if ndcg > best.ndcg:
            best = Chosen(weighting, variants, ndcg)
    return best


def _check(recorded: Sequence[Recorded]) -> None:
    if not recorded:
        raise SettingsError("baselines: nothing to choose settings on; the warm-up's last quarter has no request")


def _mean_ndcg(recorded: Sequence[Recorded], weighting: Weighting, variants: tuple[int, ...]) -> float:
    total = 0.0
    for one in recorded:
        score_C = np.zeros(len(one.relevant_C))
        for weight, shape, variant in zip(weighting.weights, weighting.shapes, variants, strict=True):
            if weight:
                score_C += weight * shaped(one.share_VC[variant], shape)
        total += ndcg_at_10(score_C, one.relevant_C, one.n_relevant)
    return total / len(recorded)


def _anywhere(groups: Sequence[Sequence[int]], random: np.random.Generator) -> tuple[Weighting, tuple[int, ...]]:
    weight_P = np.exp(random.normal(0.0, 1.5, len(groups))) * (random.random(len(groups)) > 0.25)
    shape_P = [list(FLOORS)[random.integers(len(FLOORS))] for _ in groups]
    variant_P = [int(random.choice(list(group))) for group in groups]
    return Weighting(tuple(weight_P.tolist()), tuple(shape_P)), tuple(variant_P)


def _near(
    best: Chosen, groups: Sequence[Sequence[int]], random: np.random.Generator
) -> tuple[Weighting, tuple[int, ...]]:
    """The best so far: its weights a little changed, and sometimes one part's weight, shape or variant for good."""
    weight_P = np.array(best.weighting.weights) * np.exp(random.normal(0.0, 0.4, len(groups)))
    shape_P, variant_P = list(best.weighting.shapes), list(best.variants)
    part, change = int(random.integers(len(groups))), random.random()
    if change < 0.25:
        weight_P[part] = 0.0 if weight_P[part] else float(np.exp(random.normal(0.0, 1.5)))
    elif change < 0.5:
        shape_P[part] = list(FLOORS)[random.integers(len(FLOORS))]
    elif change < 0.75:
        variant_P[part] = int(random.choice(list(groups[part])))
    return Weighting(tuple(weight_P.tolist()), tuple(shape_P)), tuple(variant_P)
