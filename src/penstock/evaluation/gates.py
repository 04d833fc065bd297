"""The gates a challenger must pass before anybody may let it serve.

Every gate fails closed: a figure that is missing, not finite, or measured on too little is a refusal with
its reason, never a pass. Comparisons are judged by the unfavourable end of an interval over users (see
evaluation.noninferiority), so a lucky mean on a small sample does not promote.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from penstock.errors import GateError
from penstock.evaluation.evidence import AnchorScores, BundleFacts, Evidence, RequestScores
from penstock.evaluation.false_promotions import RoundBudget
from penstock.evaluation.gate_report import read_report, write_report
from penstock.evaluation.guards import GUARDS, NotJudged
from penstock.evaluation.infra import InfraVerdict, infra_gate
from penstock.evaluation.noninferiority import Condition, compare, resampled
from penstock.evaluation.top_lists import ListFigures
from penstock.metrics import bootstrap_mean
from penstock.records import GateReport, GateResult
from penstock.settings import GateSettings

__all__ = [
    "AnchorScores",
    "BundleFacts",
    "Evidence",
    "InfraVerdict",
    "RequestScores",
    "judge",
    "read_report",
    "write_report",
]


def judge(
    evidence: Evidence,
    settings: GateSettings,
    seed: int,
    budget: RoundBudget,
    *,
    challenger_digest: str,
    champion_digest: str | None,
    snapshot_id: str,
    created_at: str,
    extra: Mapping[str, Any] | None = None,
) -> GateReport:
    """Measure every gate of the challenger, against the champion where there is one.

    Args:
        evidence: figures of the challenger, of the champion on the same requests, and of the bundle; what is missing or
            not finite refuses.
        seed: of the bootstrap; the same inputs give the same report.
        budget: what the round may judge at; how it came out is kept under "false_promotions" of the report.
        created_at: UTC, ISO-8601.
        extra: anything else to keep with the report; the models' means are added under "means".

    Returns:
        the report; extra["not_judged"] lists what was too small to judge and extra["lists"] what would be shown;
        extra["false_promotions"]["p_value"] is the largest of the comparisons on all requests, None where
        there was no champion to be worse than, or too few requests to promote by.

    Raises:
        GateError: champion scores without a champion digest, or two different primary metrics.
    """
    challenger, champion = evidence.challenger, evidence.champion
    if champion is not None and champion_digest is None:
        raise GateError("judge: champion scores came without the champion's digest; pass the version they belong to")
    if champion is not None and champion.primary_name != challenger.primary_name:
        raise GateError(
            f"judge: the champion was scored by {champion.primary_name}, the challenger by {challenger.primary_name}; "
            "score both by the task's metric"
        )
    gates = [_enough(challenger, settings.min_requests)]
    compared, p_value = _compared(evidence, settings, seed, budget.level, champion_digest is not None)
    gates += compared
    if not gates[0].passed:
        p_value = None  # too few requests to promote by, whatever they say: that is no test, and spends nothing
    not_judged: list[NotJudged] = []
    for guard in GUARDS:
        found, stated = guard(evidence, settings, seed)
        gates += found
        not_judged += stated
    gates += _bundle_gates(evidence.facts, settings)
    gates.append(infra_gate(evidence.infra, challenger_digest, settings.max_latency_ms))
    kept = {
        "means": _all_means(evidence, settings, seed),
        "false_promotions": asdict(budget) | {"p_value": p_value},
        "not_judged": not_judged,
        "lists": {"challenger": _tree(evidence.lists), "champion": _tree(evidence.champion_lists)},
    }
    return GateReport(
        challenger_digest=challenger_digest,
        champion_digest=champion_digest,
        snapshot_id=snapshot_id,
        created_at=created_at,
        requests=len(challenger.user),
        users=len(np.unique(challenger.user)),
        gates=tuple(gates),
        extra=dict(extra or {}) | kept,
    )


def _compared(
    evidence: Evidence, settings: GateSettings, seed: int, level: float, with_champion: bool
) -> tuple[list[GateResult], float | None]:
    """The gates on all requests, and the largest p-value; without a champion that figures are there, and None."""
    challenger, champion = evidence.challenger, evidence.champion
    if not with_champion:
        return [_finite(challenger)], None
    metrics = ("primary", "auc", "log_loss")
    found = [_against(metric, challenger, champion, settings, seed, level) for metric in metrics]
    gains = _required_gain(challenger, champion, settings, seed, level)
    return [*(gate for gate, _ in found), *gains], max(p for _, p in found)


def _tree(figures: ListFigures | None) -> dict[str, Any] | None:
    return None if figures is None else asdict(figures)


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
    metric: str,
    challenger: RequestScores,
    champion: RequestScores | None,
    settings: GateSettings,
    seed: int,
    level: float,
) -> tuple[GateResult, float]:
    """The comparison on all requests, and its p-value; 1 where nothing could be measured."""
    condition = _condition(metric, challenger, settings)
    fault = _not_comparable(metric, challenger, champion)
    if fault or champion is None:
        return condition.refused(fault), 1.0
    mask_R = challenger.measured(metric)
    a_M, b_M = getattr(challenger, metric)[mask_R], getattr(champion, metric)[mask_R]
    return compare(condition, a_M, b_M, challenger.user[mask_R], settings, seed, level)


def _condition(metric: str, scores: RequestScores, settings: GateSettings) -> Condition:
    name = _names(scores)[metric]
    gate = f"{name.partition('@')[0]}_vs_champion"
    if metric == "log_loss":
        return Condition(gate, name, "all", settings.log_loss_margin, lower_is_better=True)
    return Condition(gate, name, "all", -(settings.auc_margin if metric == "auc" else settings.ndcg_margin))


def _required_gain(
    challenger: RequestScores, champion: RequestScores | None, settings: GateSettings, seed: int, level: float
) -> list[GateResult]:
    """The gain that must be shown, where one is asked for."""
    if settings.required_gain is None:
        return []
    name = challenger.primary_name
    condition = Condition(f"{name.partition('@')[0]}_gain", name, "all", settings.required_gain)
    fault = _not_comparable("primary", challenger, champion)
    if fault or champion is None:
        return [condition.refused(fault)]
    mask_R = challenger.measured("primary")
    columns = challenger.primary[mask_R], champion.primary[mask_R], challenger.user[mask_R]
    return [compare(condition, *columns, settings, seed, level)[0]]


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


def _all_means(evidence: Evidence, settings: GateSettings, seed: int) -> dict[str, Any]:
    """Of challenger and champion, by name."""
    models = {"challenger": evidence.challenger}
    if evidence.champion is not None:
        models["champion"] = evidence.champion
    return {name: _means(scores, settings, seed) for name, scores in models.items()}


def _means(scores: RequestScores, settings: GateSettings, seed: int) -> dict[str, Any]:
    """Mean and interval of each metric, None where it cannot be measured."""
    found: dict[str, Any] = {}
    for metric, name in _names(scores).items():
        mask_R = scores.measured(metric)
        value_M = getattr(scores, metric)[mask_R]
        if not value_M.size or not np.isfinite(value_M).all():
            found[name] = None
            continue
        unit_M, _ = resampled(scores.user[mask_R])
        mean, low, high = bootstrap_mean(value_M, unit_M, settings.bootstrap_resamples, seed, settings.confidence)
        found[name] = {"mean": mean, "low": low, "high": high}
    return found
