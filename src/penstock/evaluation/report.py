"""A backtest's results on disk: summary.json, curves.png and report.html."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import GateError
from penstock.evaluation.comparison import METRICS
from penstock.evaluation.curves import Curve, draw_curves
from penstock.evaluation.gate_page import render
from penstock.evaluation.whole_file import write_whole


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
        summary: as `comparison.summarise` makes it; further keys are kept in summary.json.

    Raises:
        GateError: a figure that is not finite, or no curve at all.
    """
    if not any(curves.values()):
        raise GateError("backtest report: no window has a request; give the stream more events or fewer windows")
    tree = dict(summary) | {"curves": {name: [dict(row) for row in curve] for name, curve in curves.items()}}
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


def freshness_sentence(gap: Mapping[str, Any] | None, fresh: str, stale: str, confidence: float) -> str:
    """What the difference says, in words: better, worse, or not to be told apart."""
    if gap is None:
        return "No request, so nothing can be said."
    low, high = gap["low"], gap["high"]
    interval = f"({confidence:.0%} interval {low:+.4f} to {high:+.4f}, paired bootstrap over users)"
    relative = "" if gap["relative"] is None else f", {gap['relative']:+.1%} of its value,"
    amount = f"{gap['ndcg@10']:+.4f} NDCG@10{relative} {interval}"
    if low > 0:
        return f"Freshness pays: “{fresh}” against “{stale}” is {amount}."
    if high < 0:
        return f"Freshness costs: “{fresh}” against “{stale}” is {amount}."
    return f"No difference can be told: “{fresh}” against “{stale}” is {amount}; the interval holds 0."


def _page(summary: Mapping[str, Any], models: list[str], picture: bytes) -> str:
    methods = summary["methods"]
    pair = summary["fresh"] is not None
    names = {"fresh": summary["fresh"], "stale": summary["stale"], "confidence": summary["confidence"]}
    best_baseline = max(
        (name for name in methods if name not in models), key=lambda name: methods[name]["ndcg@10"] or 0.0, default=None
    )
    slices = [
        {
            "name": name,
            "rows": _rows(part["methods"], models),
            "requests": max((row["requests"] for row in part["methods"].values()), default=0),
            "sentence": freshness_sentence(part["freshness"], **names) if pair else "",
        }
        for name, part in summary["slices"].items()
    ]
    return render(
        "backtest.html",
        sentence=freshness_sentence(summary["freshness"], **names) if pair else "",
        against_baseline=_against_baseline(methods, summary["fresh"], best_baseline),
        protocol=summary["protocol"],
        columns=list(METRICS.values()),
        rows=_rows(methods, models),
        slices=slices,
        compute=_compute(summary["compute_s"], methods),
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


def _against_baseline(methods: Mapping[str, Any], fresh: str | None, baseline: str | None) -> str:
    if fresh is None or baseline is None or methods[fresh]["ndcg@10"] is None:
        return ""
    ours, theirs = methods[fresh]["ndcg@10"], methods[baseline]["ndcg@10"]
    word = "above" if ours > theirs else "below" if ours < theirs else "equal to"
    return (
        f"The best baseline is {baseline} with NDCG@10 {theirs:.4f}; “{fresh}” has {ours:.4f}, which is {word} it. "
        "This is a comparison of means, without an interval."
    )


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
