"""The gate report as one page: no script, no network, light and dark."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.records import GateReport, GateResult

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, MIDDLE = 260, 34, 17
PICTURE = {"width": WIDTH, "height": HEIGHT, "middle": MIDDLE}
BUNDLE, SLICES = "The bundle", "Slices"
SECTIONS = {
    "Against the champion, on all requests": ("enough_requests", "finite_metrics", "ndcg_vs_champion",
                                              "accuracy_vs_champion", "auc_vs_champion", "log_loss_vs_champion",
                                              "_gain"),
    SLICES: ("_in_slice",),
    "Calibration, coverage, diversity": ("calibration", "coverage_vs_champion", "diversity_vs_champion"),
    "Frozen windows of earlier rounds": ("forgetting", "erosion"),
}  # fmt: skip
"""Headings, and how the names of their gates end; what ends otherwise is a slice, or of the bundle."""


@dataclass(frozen=True)
class Bar:
    """Where the marks of one gate stand in its picture, in pixels; None is not drawn."""

    threshold: float
    zero: float | None
    observed: float | None
    low: float | None
    high: float | None
    allowed_x: float
    allowed_width: float


def render_page(report: GateReport, digest: str) -> str:
    """The HTML of `report`; `digest` is what an approval binds to."""
    return render(
        "gate_page.html",
        report=report,
        digest=digest,
        sections=sections(report),
        not_judged=report.extra.get("not_judged", []),
        budget=budget_line(report.extra),
        **PICTURE,
    )


def gate_rows(gates: Iterable[GateResult]) -> list[dict[str, Any]]:
    """What gate_table.html needs of each gate."""
    return [{"gate": gate, "bar": interval_bar(gate), "value": format_value(gate)} for gate in gates]


def sections(report: GateReport) -> list[dict[str, Any]]:
    """The gates under their headings, in the report's order; a heading without a gate is left out."""
    found: dict[str, list[GateResult]] = {title: [] for title in (*SECTIONS, BUNDLE)}
    for gate in report.gates:
        rest = BUNDLE if gate.slice == "all" else SLICES
        title = next((title for title, names in SECTIONS.items() if gate.name.endswith(names)), rest)
        found[title].append(gate)
    return [{"title": title, "rows": gate_rows(gates)} for title, gates in found.items() if gates]


def budget_line(extra: Mapping[str, Any]) -> str:
    """What this round was allowed to risk, in words, from a report's `extra`; empty where nothing was compared."""
    budget = extra.get("false_promotions")
    if not budget or budget["p_value"] is None:
        return ""
    return (
        f"This round judged at level {budget['level']:.2g}; its weakest comparison came to {budget['p_value']:.2g}. "
        f"The last 30 days spent {budget['spent'] / budget['per_month']:.0%} of the budget of {budget['per_month']:g} "
        f"false promotions in {budget['rounds']} judged rounds."
    )


def render(template: str, **values: Any) -> str:
    """Fill one of the templates beside this module; values are escaped, a missing one is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def interval_bar(gate: GateResult) -> Bar:
    """Place threshold, zero, observed value and interval on one axis, with the allowed side marked."""
    marks = [value for value in (gate.observed, gate.low, gate.high) if value is not None and math.isfinite(value)]
    is_difference = gate.low is not None
    lowest, highest = min([0.0, gate.threshold, *marks]), max([0.0, gate.threshold, *marks])
    span = (highest - lowest) or 1.0
    left = lowest - span * (0.12 if is_difference or lowest < 0 else 0)
    right = highest + span * 0.12

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(2 + (value - left) / (right - left) * (WIDTH - 4), 1)

    threshold = place(gate.threshold) or 0.0
    allowed_x, end = (threshold, float(WIDTH)) if gate.comparison == ">=" else (0.0, threshold)
    return Bar(
        threshold=threshold,
        zero=place(0.0) if is_difference else None,
        observed=place(gate.observed),
        low=place(gate.low),
        high=place(gate.high),
        allowed_x=allowed_x,
        allowed_width=round(max(end - allowed_x, 0), 1),
    )


def format_value(gate: GateResult) -> dict[str, str]:
    """Observed value, interval and threshold as text of sensible precision."""
    signed = " minus " in gate.metric

    def text(value: float | None) -> str:
        if value is None:
            return ""
        if not math.isfinite(value):
            return "not measured"
        if signed:
            return f"{value:+.4f}"
        if float(value).is_integer() and abs(value) < 1e9:
            return f"{value:,.0f}"
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"

    interval = "" if gate.low is None else f"{text(gate.low)} to {text(gate.high)}"
    sign = "≥" if gate.comparison == ">=" else "≤"
    return {"observed": text(gate.observed), "interval": interval, "threshold": f"{sign} {text(gate.threshold)}"}
