"""The gates around the main comparison: slices, calibration, coverage and diversity, forgetting.

They are judged at the set confidence; the budget of false promotions is kept by the comparisons on all requests.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from penstock.evaluation.calibration import best_slope
from penstock.evaluation.evidence import AnchorScores, Evidence, RequestScores
from penstock.evaluation.noninferiority import Condition, compare, resampled
from penstock.metrics import Floats, bootstrap_mean
from penstock.records import GateResult
from penstock.settings import GateSettings

NotJudged = dict[str, Any]
"""name, slice, requests, users and why: something that was not judged, to be shown as such."""


def slice_gates(evidence: Evidence, settings: GateSettings, seed: int) -> tuple[list[GateResult], list[NotJudged]]:
    """Each slice against the champion; one that is too small is stated, or refused, as gates.too_few says."""
    challenger, champion = evidence.challenger, evidence.champion
    if champion is None:
        return [], []
    stem = challenger.primary_name.partition("@")[0]
    found: list[GateResult] = []
    stated: list[NotJudged] = []
    alone = len(np.unique(challenger.user)) < 2
    counted_R = challenger.measured("primary")
    same = np.array_equal(challenger.user, champion.user)
    for name in dict.fromkeys((*evidence.expected, *evidence.slices)):
        condition = Condition(f"{stem}_in_slice", challenger.primary_name, name, -settings.slice_margin)
        mask_R = evidence.slices.get(name)
        if not same:
            found.append(condition.refused(f"{name}: challenger and champion were scored on different requests"))
            continue
        if mask_R is None or mask_R.shape != counted_R.shape:
            found.append(condition.refused(f"{name}: the slice was not measured; it must be"))
            continue
        mask_R = mask_R & counted_R
        users = len(np.unique(challenger.user[mask_R]))
        requests = int(mask_R.sum())
        if requests < settings.slice_min_requests or (users < settings.slice_min_users and not alone):
            why = (
                f"{requests} requests of {users} users; {settings.slice_min_requests} of "
                f"{settings.slice_min_users} users are needed for a verdict"
            )
            stated.append({"name": condition.name, "slice": name, "requests": requests, "users": users, "why": why})
            if settings.too_few == "refuse":
                found.append(condition.refused(f"{why} (gates.too_few: refuse)"))
            continue
        columns = (challenger.primary[mask_R], champion.primary[mask_R])
        fault = _not_finite(columns)
        user_M = challenger.user[mask_R]
        found.append(
            condition.refused(fault)
            if fault
            else compare(condition, *columns, user_M, settings, seed, _guard_level(settings))[0]
        )
    return found, stated


def calibration_gate(scores: RequestScores, settings: GateSettings, seed: int) -> GateResult:
    """What a best rescaling of the challenger's scores would save, upper end."""

    def result(observed: float, low: float | None, high: float | None, passed: bool, detail: str) -> GateResult:
        label, limit = "nats that rescaling would save", settings.max_calibration_loss
        return GateResult("calibration", label, "all", "<=", limit, observed, low, high, passed, detail)

    loss_RS = scores.scaled_loss_RS
    if loss_RS is None or not len(loss_RS) or not np.isfinite(loss_RS).all():
        return result(math.nan, None, None, False, "the log loss of rescaled scores is missing or not finite")
    slope, saved_R = best_slope(loss_RS)
    unit_R, unit = resampled(scores.user)
    mean, low, high = bootstrap_mean(saved_R, unit_R, settings.bootstrap_resamples, seed, settings.confidence)
    sure = "too sure" if slope < 1 else "not sure enough" if slope > 1 else "as sure as it should be"
    detail = (
        f"the best slope is {slope:.2f}: the model is {sure}; upper end {high:.4f} of the {settings.confidence:.0%} "
        f"interval (bootstrap over {unit}) must be <= {settings.max_calibration_loss:g}"
    )
    return result(mean, low, high, bool(high <= settings.max_calibration_loss), detail)


def list_gates(evidence: Evidence, settings: GateSettings) -> tuple[list[GateResult], list[NotJudged]]:
    """Coverage and diversity of what would be shown, as a share of the champion's."""
    if evidence.challenger.primary_name != "ndcg@10":
        return [], []
    names = {"coverage": settings.min_coverage_ratio, "diversity": settings.min_diversity_ratio}
    own, others = evidence.lists, evidence.champion_lists
    if evidence.champion is None:
        why = "no champion to compare with"
        return [], [{"name": f"{name}_vs_champion", "slice": "all", "why": why} for name in names]
    found = []
    for name, floor in names.items():
        mine = math.nan if own is None else float(asdict(own)[name])
        theirs = math.nan if others is None else float(asdict(others)[name])
        ratio = mine / theirs if theirs > 0 else (1.0 if theirs == 0 and mine >= 0 else math.nan)
        detail = f"{name}: no lists were made for challenger and champion; make them for both"
        if own is not None and others is not None:
            what = (
                f"{own.shown} and {others.shown} of at most {own.possible} items" if name == "coverage" else own.unlike
            )
            detail = f"challenger {mine:.3f}, champion {theirs:.3f} over {own.lists} top ten lists ({what})"
        passed = math.isfinite(ratio) and ratio >= floor
        label = f"{name} over champion's"
        found.append(GateResult(f"{name}_vs_champion", label, "all", ">=", floor, ratio, None, None, passed, detail))
    return found, []


def anchor_gates(evidence: Evidence, settings: GateSettings, seed: int) -> tuple[list[GateResult], list[NotJudged]]:
    """Frozen requests of earlier rounds: not forgotten against the champion, nor worn away since they were new."""
    found: list[GateResult] = []
    stated: list[NotJudged] = []
    metric = evidence.challenger.primary_name
    for anchor in evidence.anchors:
        rounds = "1 round ago" if anchor.age == 1 else f"{anchor.age} rounds ago"
        label = f"{rounds}, {anchor.until[:16].replace('T', ' ')} UTC"
        requests, users = len(anchor.user), len(np.unique(anchor.user))
        if requests < settings.anchor_min_requests:
            why = f"{requests} requests of {users} users; {settings.anchor_min_requests} are needed for a verdict"
            stated.append({"name": "forgetting", "slice": label, "requests": requests, "users": users, "why": why})
            if settings.too_few == "refuse":
                condition = Condition("forgetting", metric, label, -settings.forgetting_margin)
                found.append(condition.refused(f"{why} (gates.too_few: refuse)"))
            continue
        for name, against, other in _anchor_pairs(anchor):
            condition = Condition(name, metric, label, -settings.forgetting_margin, against=against)
            fault = _not_finite((anchor.challenger, other))
            found.append(
                condition.refused(fault)
                if fault
                else compare(condition, anchor.challenger, other, anchor.user, settings, seed, _guard_level(settings))[
                    0
                ]
            )
    return found, stated


def _anchor_pairs(anchor: AnchorScores) -> list[tuple[str, str, Floats]]:
    pairs = [("erosion", "the earlier model", anchor.then)]
    return pairs if anchor.champion is None else [("forgetting", "champion", anchor.champion), *pairs]


def _guard_level(settings: GateSettings) -> float:
    return (1 - settings.confidence) / 2


def _not_finite(columns: tuple[Floats, Floats]) -> str:
    for who, value_M in zip(("challenger", "other"), columns, strict=True):
        if not value_M.size or not np.isfinite(value_M).all():
            return f"{np.count_nonzero(~np.isfinite(value_M))} of {value_M.size} {who} values are not finite"
    return ""


Guard = Callable[[Evidence, GateSettings, int], tuple[list[GateResult], list[NotJudged]]]
GUARDS: tuple[Guard, ...] = (
    slice_gates,
    lambda evidence, settings, seed: ([calibration_gate(evidence.challenger, settings, seed)], []),
    lambda evidence, settings, seed: list_gates(evidence, settings),
    anchor_gates,
)
"""In the order in which a report names them."""
