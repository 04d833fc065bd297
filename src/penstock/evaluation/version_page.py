"""One version as one page to keep or send: gates, slices, lineage, data, curves, who approved; no script in it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.evaluation.charts import Line, line_chart
from penstock.evaluation.gate_page import PICTURE, budget_line, render, sections
from penstock.records import GateReport

CURVE_NAMES = {
    "loss": "Loss by step",
    "learning_rate": "Learning rate by step",
    "gradient_norm": "Gradient norm by step",
}
SHOWN_POINTS = 400


def version_page(detail: Mapping[str, Any], report: GateReport | None, written_at: str) -> str:
    """The HTML.

    Args:
        detail: number, status, created_at, digest, requester, lineage, report_digest, report_error, round, snapshot,
            curves (points of step and value) and decisions (at, what, who, why), as the console's version has them.
        report: the gate report, its digest verified; None where there is none.
    """
    ran: Mapping[str, Any] = detail["round"] or {}
    return render(
        "version_page.html",
        number=detail["number"],
        status=detail["status"],
        written_at=written_at,
        verdict=_verdict(report),
        approver=_approver(detail["decisions"]),
        lineage=_lineage(detail),
        data=_data(detail["snapshot"]),
        sections=sections(report) if report else [],
        not_judged=report.extra.get("not_judged", []) if report else [],
        budget=budget_line(report.extra) if report else "",
        report_error=detail["report_error"] or "",
        means=_means(report.extra.get("means") or {}) if report else [],
        curves=_curves(detail["curves"]),
        metrics={name: _number(value) for name, value in (ran.get("metrics") or {}).items()},
        stages={name: f"{value:.1f}" for name, value in (ran.get("stages_s") or {}).items()},
        decisions=[{**one, "at": str(one["at"])[:19].replace("T", " ")} for one in detail["decisions"]],
        **PICTURE,
    )


def _verdict(report: GateReport | None) -> str:
    if report is None:
        return "It was never measured and cannot be promoted."
    if report.passed:
        return f"All {len(report.gates)} gates passed, on {report.requests} requests of {report.users} users."
    return f"Refused by {', '.join(report.refusals) or 'having no gate'}."


def _approver(decisions: list[Mapping[str, Any]]) -> str:
    """The sentence for who let it serve, or why nobody did."""
    served = [one for one in decisions if one["what"] in ("promote", "rollback")]
    approved = [one for one in decisions if one["what"] == "approve"]
    rejected = [one for one in decisions if one["what"] == "reject"]
    if rejected:
        return f"Rejected by {rejected[-1]['who']}: {rejected[-1]['why']}"
    if served and approved:
        return f"Approved by {approved[-1]['who']}: {approved[-1]['why']}"
    if served:
        return f"Let serve by {served[-1]['who']}: {served[-1]['why']}"
    return "Nobody let it serve."


def _lineage(detail: Mapping[str, Any]) -> dict[str, str]:
    found = detail["lineage"]
    if found is None:
        return {}
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    facts = {
        "Bundle sha256": detail["digest"],
        "Registered": _time(detail["created_at"]),
        "Asked for by": detail["requester"],
        "Round": found["round_id"],
        "Snapshot": found["snapshot_id"],
        "Data sha256": found["data_sha256"],
        "Learned until": _time(found["learned_until"]),
        "Parent version": found["parent_version"] or "none: the first",
        "Parameters sha256": found["params_sha256"],
        "Code": found["git_commit"],
        "Seed": found["seed"],
        "Task": found["task"],
        "Gate report sha256": detail["report_digest"] or "none",
        "Libraries": libraries,
    }
    return {name: str(value) for name, value in facts.items()}


def _data(snapshot: Mapping[str, Any] | None) -> dict[str, str]:
    if snapshot is None:
        return {}
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in snapshot["counts_by_kind"].items())
    return {
        "Events": f"{snapshot['rows']:,} ({kinds})",
        "Window": f"{_time(snapshot['window_start'])} to {_time(snapshot['window_end'])}",
        "Late": f"{snapshot['late_rows']:,}",
        "In quarantine": f"{snapshot['quarantined_rows']:,}",
        "Status": str(snapshot["status"]),
    }


def _means(means: Mapping[str, Any]) -> list[dict[str, Any]]:
    own, other = means.get("challenger") or {}, means.get("champion") or {}
    return [{"name": name, "own": _mean(own[name]), "other": _mean(other.get(name))} for name in own]


def _mean(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {"mean": "–", "interval": ""}
    interval = "" if found.get("low") is None else f"{_number(found['low'])} to {_number(found['high'])}"
    return {"mean": _number(found["mean"]), "interval": interval}


def _curves(curves: Mapping[str, list[Mapping[str, Any]]]) -> list[dict[str, str]]:
    drawn = []
    for name, points in curves.items():
        finite = [(float(point["step"]), point["value"]) for point in points if point["value"] is not None]
        every = max(1, math.ceil(len(finite) / SHOWN_POINTS))
        if len(finite) < 2:
            continue
        title = CURVE_NAMES.get(name, name)
        line = Line(name.replace("_", " "), _number(finite[-1][1]), finite[::every], True)
        drawn.append({"name": title, "svg": line_chart([line], title, 220, by_step=True)})
    return drawn


def _time(iso: str) -> str:
    """A moment in UTC to the second."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float | None) -> str:
    return "not measured" if value is None or not math.isfinite(value) else f"{value:.4g}"
