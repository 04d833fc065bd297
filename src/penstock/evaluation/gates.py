"""The gates a challenger must pass before anybody may let it serve.

Every gate fails closed: a figure that is missing, not finite, or measured on too little is a refusal with
its reason, never a pass. Comparisons are judged by the unfavourable end of a paired bootstrap interval over
users, so a lucky mean on a small sample does not promote.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError
from penstock.evaluation.gate_report import read_report, report_digest, write_report
from penstock.metrics import Floats, Ints, bootstrap_mean, paired_bootstrap
from penstock.records import GateReport, GateResult
from penstock.settings import GateSettings

__all__ = ["BundleFacts", "RequestScores", "judge", "read_report", "report_digest", "write_report"]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RequestScores:
    """How one model did on each held-out request, R requests in one order for every model compared.

    user: user id of each request; primary: `primary_name` of each; auc, log_loss: of each; n_relevant: its
    relevant items; n_candidates: its scored candidates, where known. A request without a relevant item is
    measured by log loss alone, one with nothing but relevant candidates not by AUC; everything else must be finite.
    """

    user: npt.NDArray[Any]
    primary: Floats
    auc: Floats
    log_loss: Floats
    n_relevant: Ints
    primary_name: Literal["ndcg@10", "accuracy"] = "ndcg@10"
    n_candidates: Ints | None = None

    def __post_init__(self) -> None:
        columns = [self.user, self.primary, self.auc, self.log_loss, self.n_relevant]
        columns += [] if self.n_candidates is None else [self.n_candidates]
        shapes = {np.shape(column) for column in columns}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise GateError(f"request scores: columns of shapes {sorted(shapes)}; expected one value per request")

    def measured(self, metric: str) -> Bools:
        """bool [R], True where the request counts for `metric` (primary, auc or log_loss)."""
        if metric == "log_loss":
            return np.ones(len(self.user), bool)
        counts_R = np.asarray(self.n_relevant) > 0
        if metric == "auc" and self.n_candidates is not None:
            counts_R &= np.asarray(self.n_relevant) < np.asarray(self.n_candidates)
        return counts_R


@dataclass(frozen=True)
class BundleFacts:
    """Measured on the exported bundle: largest score difference to torch, median ms a request, MiB on disk."""

    parity_error: float
    latency_ms: float
    size_mb: float


def judge(
    challenger: RequestScores,
    champion: RequestScores | None,
    facts: BundleFacts,
    settings: GateSettings,
    seed: int,
    *,
    challenger_digest: str,
    champion_digest: str | None,
    snapshot_id: str,
    created_at: str,
    extra: Mapping[str, Any] | None = None,
) -> GateReport:
    """Measure every gate of `challenger`, against `champion` where there is one.

    Args:
        challenger, champion: scores on the same requests in the same order.
        facts: of the challenger's bundle; a value that is not finite refuses.
        seed: of the bootstrap; the same inputs give the same report.
        created_at: UTC, ISO-8601.
        extra: anything else to keep with the report; the models' means are added under "means".

    Raises:
        GateError: champion scores without a champion digest, or two different primary metrics.
    """
    if champion is not None and champion_digest is None:
        raise GateError("judge: champion scores came without the champion's digest; pass the version they belong to")
    if champion is not None and champion.primary_name != challenger.primary_name:
        raise GateError(
            f"judge: the champion was scored by {champion.primary_name}, the challenger by {challenger.primary_name}; "
            "score both by the task's metric"
        )
    gates = [_enough(challenger, settings.min_requests)]
    if champion_digest is None:
        gates.append(_finite(challenger))
    else:
        gates += [_against(m, challenger, champion, settings, seed) for m in ("primary", "auc", "log_loss")]
    gates += _bundle_gates(facts, settings)
    models = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    means = {name: _means(scores, settings, seed) for name, scores in models.items()}
    return GateReport(
        challenger_digest=challenger_digest,
        champion_digest=champion_digest,
        snapshot_id=snapshot_id,
        created_at=created_at,
        requests=len(challenger.user),
        users=len(np.unique(challenger.user)),
        gates=tuple(gates),
        extra=dict(extra or {}) | {"means": means},
    )


def _enough(scores: RequestScores, minimum: int) -> GateResult:
    counted = int(scores.measured("primary").sum())
    detail = f"{counted} held-out requests with a relevant item, at least {minimum} are needed for a verdict"
    return GateResult(
        "enough_requests",
        "requests",
        "all",
        ">=",
        float(minimum),
        float(counted),
        None,
        None,
        counted >= minimum,
        detail,
    )


def _finite(scores: RequestScores) -> GateResult:
    """Without a champion there is nothing to compare with: every figure must at least be there."""
    faults = []
    for metric, name in _names(scores).items():
        value_M = getattr(scores, metric)[scores.measured(metric)]
        if not value_M.size:
            faults.append(f"{name}: measured on no request")
        elif not np.isfinite(value_M).all():
            faults.append(f"{name}: {np.count_nonzero(~np.isfinite(value_M))} of {value_M.size} values are not finite")
    detail = "; ".join(faults) or "no champion to compare with; every metric is there and finite"
    return GateResult(
        "finite_metrics", "faulty metrics", "all", "<=", 0.0, float(len(faults)), None, None, not faults, detail
    )


def _names(scores: RequestScores) -> dict[str, str]:
    return {"primary": scores.primary_name, "auc": "auc", "log_loss": "log_loss"}


def _against(
    metric: str, challenger: RequestScores, champion: RequestScores | None, settings: GateSettings, seed: int
) -> GateResult:
    name = _names(challenger)[metric]
    stem = name.partition("@")[0]
    lower_is_better = metric == "log_loss"
    margin = {"auc": settings.auc_margin, "log_loss": settings.log_loss_margin}.get(metric, settings.ndcg_margin)
    threshold = margin if lower_is_better else -margin
    comparison: Literal[">=", "<="] = "<=" if lower_is_better else ">="

    def result(observed: float, low: float | None, high: float | None, passed: bool, detail: str) -> GateResult:
        label = f"{name} minus champion's"
        return GateResult(
            f"{stem}_vs_champion", label, "all", comparison, threshold, observed, low, high, passed, detail
        )

    fault = _not_comparable(metric, challenger, champion)
    if fault or champion is None:
        return result(math.nan, None, None, False, fault)
    mask_R = challenger.measured(metric)
    unit_M, unit = _resampled(challenger.user[mask_R])
    a_M, b_M = getattr(challenger, metric)[mask_R], getattr(champion, metric)[mask_R]
    mean, low, high = paired_bootstrap(a_M, b_M, unit_M, settings.bootstrap_resamples, seed, settings.confidence)
    passed = high <= threshold if lower_is_better else low >= threshold
    judged = f"upper end {high:+.4f}" if lower_is_better else f"lower end {low:+.4f}"
    detail = (
        f"challenger {a_M.mean():.4f}, champion {b_M.mean():.4f} over {a_M.size} requests; {judged} of the "
        f"{settings.confidence:.0%} interval (paired bootstrap over {unit}) must be {comparison} {threshold:+g}"
    )
    return result(mean, low, high, bool(passed), detail)


def _not_comparable(metric: str, challenger: RequestScores, champion: RequestScores | None) -> str:
    """Why the two cannot be compared on `metric`; empty when they can."""
    name = _names(challenger)[metric]
    if champion is None:
        return f"{name}: the champion was not scored on these requests; score it before judging"
    same = np.array_equal(challenger.user, champion.user) and np.array_equal(challenger.n_relevant, champion.n_relevant)
    if not same:
        sizes = f"{len(challenger.user)} and {len(champion.user)}"
        return f"{name}: challenger and champion were scored on different requests ({sizes}); score both on the same"
    mask_R = challenger.measured(metric)
    if not mask_R.any():
        return f"{name}: none of {len(mask_R)} requests can be measured; nothing to judge by"
    for who, scores in (("challenger", challenger), ("champion", champion)):
        value_M = getattr(scores, metric)[mask_R]
        if not np.isfinite(value_M).all():
            return f"{name}: {np.count_nonzero(~np.isfinite(value_M))} of {value_M.size} {who} values are not finite"
    return ""


def _resampled(user_M: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str]:
    """What the bootstrap draws: users; with a single user (texts without one) its requests, else it has no width."""
    if len(np.unique(user_M)) > 1:
        return user_M, "users"
    return np.arange(len(user_M)), "requests of the only user"


def _bundle_gates(facts: BundleFacts, settings: GateSettings) -> list[GateResult]:
    rows = (
        ("parity", "largest score difference", facts.parity_error, settings.max_parity_error, "exported against torch"),
        ("latency", "median ms per request", facts.latency_ms, settings.max_latency_ms, "onnxruntime, one request"),
        ("size", "bundle MiB", facts.size_mb, settings.max_size_mb, "every file of the bundle"),
    )
    results = []
    for name, metric, observed, limit, what in rows:
        valid = math.isfinite(observed) and observed >= 0
        detail = what if valid else f"{what}: found {observed}, expected a finite value of at least 0; measure it again"
        results.append(
            GateResult(name, metric, "all", "<=", limit, observed, None, None, valid and observed <= limit, detail)
        )
    return results


def _means(scores: RequestScores, settings: GateSettings, seed: int) -> dict[str, Any]:
    """Mean and interval of each metric, None where it cannot be measured."""
    found: dict[str, Any] = {}
    for metric, name in _names(scores).items():
        mask_R = scores.measured(metric)
        value_M = getattr(scores, metric)[mask_R]
        if not value_M.size or not np.isfinite(value_M).all():
            found[name] = None
            continue
        unit_M, _ = _resampled(scores.user[mask_R])
        mean, low, high = bootstrap_mean(value_M, unit_M, settings.bootstrap_resamples, seed, settings.confidence)
        found[name] = {"mean": mean, "low": low, "high": high}
    return found
