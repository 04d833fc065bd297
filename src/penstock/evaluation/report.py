"""A backtest's results on disk: summary.json, curves.png and report.html."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.errors import GateError
from penstock.evaluation.comparison import METRICS
from penstock.evaluation.curves import Curve, draw_curves
from penstock.evaluation.gate_page import render
from penstock.evaluation.whole_file import write_whole

COLUMNS = {"ndcg": "NDCG@10", "hr": "HR@10", "mrr": "MRR@100", "recall": "Recall@100"}


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
        summary: as `comparison.summarise` makes it; further keys are kept in summary.json.

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
    write_whole(files.page, _page(summary, models, picture).encode())
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


def gain_sentence(gap: Mapping[str, Any] | None, ours: str, theirs: str, confidence: float) -> str:
    """What a difference of NDCG@10 says, in words: better, worse, or not to be told apart."""
    if gap is None:
        return "No request, so nothing can be said."
    relative = "" if gap["relative"] is None else f" ({gap['relative']:+.1%})"
    amount = f"NDCG@10 {gap['ndcg@10']:+.4f}{relative}"
    low, high = gap["low"], gap["high"]
    if low is None or high is None:
        return f"“{ours}” minus “{theirs}”: {amount}, from a single user: without an interval it says little."
    interval = f"{confidence:.0%} interval {low:+.4f} to {high:+.4f} by paired bootstrap over {gap['users']} users"
    if low > 0:
        return f"“{ours}” beats “{theirs}”: {amount}, {interval}."
    if high < 0:
        return f"“{ours}” loses to “{theirs}”: {amount}, {interval}."
    return f"“{ours}” and “{theirs}” cannot be told apart: {amount}, {interval}, which holds 0."


def _page(summary: Mapping[str, Any], models: list[str], picture: bytes) -> str:
    fresh, stale, confidence = summary["fresh"], summary["stale"], summary["confidence"]

    def sentence(gap: Mapping[str, Any] | None, theirs: str | None) -> str:
        return gain_sentence(gap, fresh, theirs, confidence) if fresh and theirs else ""

    slices = [
        {
            "name": name,
            "rows": _rows(part["methods"], models),
            "requests": max((row["requests"] for row in part["methods"].values()), default=0),
            "sentence": sentence(part["freshness"], stale),
        }
        for name, part in summary["slices"].items()
    ]
    return render(
        "backtest.html",
        sentence=sentence(summary["freshness"], stale),
        against_baseline=sentence(summary["against_baseline"], summary["best_baseline"]),
        protocol=summary["protocol"],
        confidence=f"{confidence:.0%}",
        columns=[COLUMNS[name] for name in METRICS],
        rows=_rows(summary["methods"], models),
        slices=slices,
        compute=_compute(summary["compute_s"], summary["methods"]),
        picture=base64.b64encode(picture).decode(),
    )


def _rows(methods: Mapping[str, Any], models: list[str]) -> list[dict[str, Any]]:
    """Table rows, models first, then baselines from best to worst; the best of each column is marked."""
    order = sorted(methods, key=lambda name: (name not in models, -(methods[name]["ndcg@10"] or 0.0)))
    best = {label: max((row[label] or 0.0 for row in methods.values()), default=0.0) for label in METRICS.values()}
    rows = []
    for name in order:
        found = methods[name]
        cells = [
            {
                "text": "–" if found[label] is None else f"{found[label]:.4f}",
                "best": found[label] is not None and found[label] > 0 and found[label] == best[label],
            }
            for label in METRICS.values()
        ]
        interval = found["ndcg@10_ci95"]
        text = "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
        rows.append({"name": name, "model": name in models, "cells": cells, "interval": text})
    return rows


def _compute(compute_s: Mapping[str, float], methods: Mapping[str, Any]) -> list[dict[str, str]]:
    least = min((seconds for seconds in compute_s.values() if seconds > 0), default=math.nan)
    return [
        {
            "name": name,
            "seconds": f"{seconds:,.1f}",
            "factor": f"{seconds / least:.1f}×" if seconds > 0 else "–",
            "ndcg": "–" if methods[name]["ndcg@10"] is None else f"{methods[name]['ndcg@10']:.4f}",
        }
        for name, seconds in compute_s.items()
    ]


def _unwrapped(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r} is no JSON value")
