"""The gate report as one page: no script, no network, light and dark."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.records import GateReport, GateResult

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, MIDDLE = 260, 34, 17
PICTURE = {"width": WIDTH, "height": HEIGHT, "middle": MIDDLE}


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
    return render("gate_page.html", report=report, digest=digest, rows=gate_rows(report.gates), **PICTURE)


def gate_rows(gates: Iterable[GateResult]) -> list[dict[str, Any]]:
    """What gate_table.html needs of each gate."""
    return [{"gate": gate, "bar": interval_bar(gate), "value": format_value(gate)} for gate in gates]


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
    signed = gate.name.endswith("_vs_champion")

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
