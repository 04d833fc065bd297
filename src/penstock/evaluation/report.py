"""A backtest's results on disk: summary.json, curves.png and report.html."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.errors import GateError
from penstock.evaluation.curves import Curve, draw_curves
from penstock.evaluation.report_page import page
from penstock.evaluation.whole_file import write_whole
from penstock.evaluation.words import gain_sentence

__all__ = ["ReportFiles", "gain_sentence", "write_backtest_report"]


@dataclass(frozen=True)
class ReportFiles:
    """Where the three files lie."""

    summary: Path
    picture: Path
    page: Path


def write_backtest_report(out: Path, curves: Mapping[str, Curve], summary: Mapping[str, Any]) -> ReportFiles:
    """Write summary.json (curves included), curves.png and report.html into `out`, each whole or not at all.

    Args:
        curves: rows per window {window, at, ndcg, hr, mrr, recall, requests} by method, cadences and baselines.
            `at`: the window's start, ISO-8601 or UTC seconds; windows without requests are left out.
        summary: as `comparison.summarise` makes it; cadences, baselines, movers, candidate_recall and forgetting get
            their part of the page where they are there; further keys are kept in summary.json.

    Raises:
        GateError: a figure that is not finite, or no curve at all.
    """
    curves = {name: _with_requests(curve) for name, curve in curves.items()}
    if not any(curves.values()):
        raise GateError("backtest report: no window has a request; give the stream more events or fewer windows")
    tree = dict(summary) | {"curves": curves}
    try:
        text = json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False, default=_unwrapped)
    except (ValueError, TypeError) as error:
        raise GateError(f"backtest report: {error}; a figure that is not finite cannot be reported") from error
    models = [name for name in curves if name in summary["compute_s"]]
    picture = draw_curves(curves, models, summary["fresh"], summary["stale"])
    files = ReportFiles(out / "summary.json", out / "curves.png", out / "report.html")
    write_whole(files.summary, text.encode())
    write_whole(files.picture, picture)
    write_whole(files.page, page(summary, curves, models).encode())
    return files


def _with_requests(curve: Curve) -> list[dict[str, Any]]:
    """The rows that measured something, `at` as ISO-8601 and `window` as an integer."""
    rows = []
    for row in curve:
        if row["requests"]:
            at = row["at"]
            text = at if isinstance(at, str) else datetime.fromtimestamp(float(at), UTC).isoformat()
            rows.append({**row, "at": text, "window": int(row["window"]), "requests": int(row["requests"])})
    return rows


def _unwrapped(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r} is no JSON value")
