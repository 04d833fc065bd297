"""What each cadence and baseline came to over a stream, request by request, and what freshness brought.

Depths as everywhere in penstock: NDCG@10, HR@10, MRR@100, Recall@100. R requests.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError
from penstock.metrics import Floats, Ints, bootstrap_mean, hit_rate_at, mrr_at, ndcg_at, recall_at

if TYPE_CHECKING:  # prequential scoring imports the inference engine; comparing numbers must not
    from penstock.evaluation.prequential import RankedRequests

HIT_DEPTH = 10
RANK_DEPTH = 100
METRICS = {"ndcg": "ndcg@10", "hr": "hr@10", "mrr": "mrr@100", "recall": "recall@100"}


@dataclass(frozen=True)
class RequestMetrics:
    """Per-request figures of one method; `request_R`: id of each request, by which methods are paired."""

    request_R: npt.NDArray[Any]
    user_R: npt.NDArray[Any]
    ndcg_R: Floats
    hr_R: Floats
    mrr_R: Floats
    recall_R: Floats

    def __len__(self) -> int:
        return len(self.user_R)

    def where(self, mask_R: npt.NDArray[np.bool_]) -> "RequestMetrics":
        """The requests of a slice."""
        return RequestMetrics(
            self.request_R[mask_R],
            self.user_R[mask_R],
            self.ndcg_R[mask_R],
            self.hr_R[mask_R],
            self.mrr_R[mask_R],
            self.recall_R[mask_R],
        )


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: resamples of users, seed, confidence in (0, 1)."""

    resamples: int
    seed: int
    confidence: float


def from_ranked(ranked: "RankedRequests") -> RequestMetrics:
    """The figures that prequential scoring collected."""
    return RequestMetrics(
        np.array(ranked.request_id, np.int64),
        np.array(ranked.user, np.str_),
        np.array(ranked.ndcg, np.float64),
        np.array(ranked.hit, np.float64),
        np.array(ranked.mrr, np.float64),
        np.array(ranked.recall, np.float64),
    )


def measure(
    request: Sequence[Any] | npt.NDArray[Any],
    user: Sequence[str] | npt.NDArray[Any],
    ranked: Sequence[Sequence[Hashable]],
    relevant: Sequence[Sequence[Hashable]],
) -> RequestMetrics:
    """Score rankings (best first, cut at 100) against the items each request led to.

    Raises:
        GateError: lengths that differ, a request without a relevant item, an item twice in one list.
    """
    if not len(request) == len(user) == len(ranked) == len(relevant):
        raise GateError(
            f"measure: {len(request)} requests, {len(user)} users, {len(ranked)} rankings, {len(relevant)} truths"
        )
    request_F: list[int] = []
    rank_F: list[int] = []
    for row, (items, wanted) in enumerate(zip(ranked, relevant, strict=True)):
        wanted_set = set(wanted)
        if len(wanted_set) != len(wanted) or len(set(items)) != len(items):
            raise GateError(f"measure: request {row} of user {user[row]} lists an item twice; rank each item once")
        found = [rank for rank, item in enumerate(items[:RANK_DEPTH], start=1) if item in wanted_set]
        request_F += [row] * len(found)
        rank_F += found
    n_relevant_R = [len(wanted) for wanted in relevant]
    columns = (request_F, rank_F, n_relevant_R)
    return RequestMetrics(
        np.asarray(request),
        np.asarray(user),
        ndcg_at(*columns, HIT_DEPTH),
        hit_rate_at(*columns, HIT_DEPTH),
        mrr_at(*columns, RANK_DEPTH),
        recall_at(*columns, RANK_DEPTH),
    )


def curve(metrics: RequestMetrics, window_R: Ints, window_at: Sequence[str]) -> list[dict[str, Any]]:
    """One row per window that has requests: window, at, ndcg, hr, mrr, recall, requests.

    Args:
        window_R: 0-based window of each request.
        window_at: start of each window, ISO-8601.
    """
    rows = []
    for window in np.unique(window_R).tolist():
        part = metrics.where(window_R == window)
        means = {name: float(getattr(part, f"{name}_R").mean()) for name in METRICS}
        rows.append({"window": window, "at": window_at[window], **means, "requests": len(part)})
    return rows


def overall(metrics: RequestMetrics, bootstrap: Bootstrap) -> dict[str, Any]:
    """Means over all requests and the interval of NDCG@10; None where no request, or one user, leaves none."""
    found: dict[str, Any] = {"requests": len(metrics), "users": len(np.unique(metrics.user_R))}
    for name, label in METRICS.items():
        found[label] = float(getattr(metrics, f"{name}_R").mean()) if len(metrics) else None
    enough = found["users"] > 1
    found["ndcg@10_ci95"] = list(_interval(metrics.ndcg_R, metrics.user_R, bootstrap)) if enough else None
    return found


def difference(fresh: RequestMetrics, stale: RequestMetrics, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Fresh minus stale NDCG@10 by paired bootstrap over users.

    Returns:
        None where there is no request; else ndcg@10 (the mean difference), low and high (None with one user:
        nothing can be drawn), relative (to the stale mean; None where that is 0), requests, users.

    Raises:
        GateError: the two were scored on different requests.
    """
    if not (np.array_equal(fresh.user_R, stale.user_R) and np.array_equal(fresh.request_R, stale.request_R)):
        raise GateError(
            f"difference: {len(fresh)} and {len(stale)} requests that are not the same; score both on one set"
        )
    if not len(fresh):
        return None
    gain_R, users = fresh.ndcg_R - stale.ndcg_R, len(np.unique(fresh.user_R))
    low, high = _interval(gain_R, fresh.user_R, bootstrap) if users > 1 else (None, None)
    mean, stale_mean = float(gain_R.mean()), float(stale.ndcg_R.mean())
    relative = mean / stale_mean if stale_mean > 0 else None
    counts = {"requests": len(fresh), "users": users}
    return {"ndcg@10": mean, "low": low, "high": high, "relative": relative, **counts}


def summarise(
    methods: Mapping[str, RequestMetrics],
    slices: Mapping[str, Mapping[str, RequestMetrics]],
    compute_s: Mapping[str, float],
    protocol: Mapping[str, Any],
    bootstrap: Bootstrap,
    fresh: str | None,
    stale: str | None,
) -> dict[str, Any]:
    """The summary that `write_backtest_report` writes: means, slices, compute, and what freshness brought.

    Args:
        methods: cadences and baselines by name, all on the same requests.
        slices: by slice name (new users, young items, unseen items), the same methods on that slice; item
            slices hold the requests that led to such an item, measured on those items alone.
        compute_s: seconds of learning by cadence; a method that is not named here is a baseline.
        protocol: what a reader needs to repeat it (data, windows, warm-up, seed).
        fresh, stale: which two methods differ in freshness alone; None where one was not run.
    """
    gaps = {
        name: difference(parts[fresh], parts[stale], bootstrap) if fresh and stale else None
        for name, parts in {"": methods, **slices}.items()  # a slice may lack baselines, never a cadence
    }
    means = {name: overall(metrics, bootstrap) for name, metrics in methods.items()}
    baselines = [name for name in methods if name not in compute_s]
    best = max(baselines, key=lambda name: means[name]["ndcg@10"] or 0.0, default=None)
    against = difference(methods[fresh], methods[best], bootstrap) if fresh and best else None
    return {
        "protocol": dict(protocol),
        "confidence": bootstrap.confidence,
        "fresh": fresh,
        "stale": stale,
        "methods": means,
        "freshness": gaps[""],
        "best_baseline": best,
        "against_baseline": against,
        "slices": {
            name: {
                "methods": {key: overall(part, bootstrap) for key, part in parts.items()},
                "freshness": gaps[name],
            }
            for name, parts in slices.items()
        },
        "compute_s": dict(compute_s),
    }


def _interval(value_R: Floats, user_R: npt.NDArray[Any], bootstrap: Bootstrap) -> tuple[float, float]:
    return bootstrap_mean(value_R, user_R, bootstrap.resamples, bootstrap.seed, bootstrap.confidence)[1:]
