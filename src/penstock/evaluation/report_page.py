"""report.html of a backtest: what summary.json says, in words, pictures and tables; no script, no network."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from penstock.evaluation.charts import Interval, Line, bars, cost_chart, forest, line_chart
from penstock.evaluation.comparison import METRICS
from penstock.evaluation.curves import Curve, column, mean_of, running_gain, smooth
from penstock.evaluation.gate_page import render
from penstock.evaluation.slices import MEANING
from penstock.evaluation.words import (
    baseline_sentences,
    forgetting_sentence,
    gain_sentence,
    pays_sentences,
    short,
    slice_sentences,
)

COLUMNS = {"ndcg": "NDCG@10", "hr": "HR@10", "mrr": "MRR@100", "recall": "Recall@100"}
FORGETTING_LIMIT = 0.003
Summary = Mapping[str, Any]


def page(summary: Summary, curves: Mapping[str, Curve], models: list[str]) -> str:
    """The HTML. `models`: the methods that are cadences of the model, not baselines."""
    fresh, stale, confidence = summary["fresh"], summary["stale"], summary["confidence"]

    def sentence(gap: Mapping[str, Any] | None, theirs: str | None) -> str:
        return gain_sentence(gap, fresh, theirs, confidence) if fresh and theirs else ""

    return render(
        "backtest.html",
        sentence=sentence(summary["freshness"], stale),
        against_baseline=sentence(summary["against_baseline"], summary["best_baseline"]),
        protocol=summary["protocol"],
        confidence=f"{confidence:.0%}",
        fresh=fresh,
        stale=stale,
        columns=[COLUMNS[name] for name in METRICS],
        rows=_rows(summary["methods"], models),
        slices=[
            _slice(name, part, models, sentence(part["freshness"], stale)) for name, part in summary["slices"].items()
        ],
        quality=_quality(curves, models),
        running=_running(curves, models, stale),
        cadences=_cadences(summary),
        gains=_gains(summary),
        baselines=_baselines(summary),
        recall=_recall(summary),
        forgetting=_forgetting(summary),
        compute=[] if "cadences" in summary else _compute(summary["compute_s"], summary["methods"]),
    )


def _slice(name: str, part: Mapping[str, Any], models: list[str], sentence: str) -> dict[str, Any]:
    return {
        "name": name,
        "meaning": MEANING.get(name, ""),
        "rows": _rows(part["methods"], models),
        "requests": max((row["requests"] for row in part["methods"].values()), default=0),
        "sentence": sentence,
    }


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


def _times(curve: Curve) -> list[float]:
    return [datetime.fromisoformat(str(row["at"])).timestamp() for row in curve]


def _quality(curves: Mapping[str, Curve], models: list[str]) -> str:
    """Cadences, and the three best baselines, over the stream."""
    means = {name: mean_of(curve) for name, curve in curves.items() if curve}
    ranked = sorted(means, key=lambda name: -means[name])
    shown = [name for name in models if name in means] + [name for name in ranked if name not in models][:3]
    lines = []
    for name in shown:
        smooth_W = smooth(column(curves[name], "ndcg"), column(curves[name], "requests"))
        points = list(zip(_times(curves[name]), smooth_W.tolist(), strict=True))
        lines.append(Line(name, f"{means[name]:.4f}", points, name in models))
    return line_chart(lines, "NDCG@10 over the stream")


def _running(curves: Mapping[str, Curve], models: list[str], stale: str | None) -> str:
    """Each cadence minus the stale model, over all requests so far."""
    if stale is None or not curves.get(stale):
        return ""
    lines = []
    for name in models:
        if name == stale or not curves[name]:
            continue
        shared = {row["window"] for row in curves[name]} & {row["window"] for row in curves[stale]}
        ours = [row for row in curves[name] if row["window"] in shared]
        theirs = [row for row in curves[stale] if row["window"] in shared]
        gain_W = running_gain(ours, theirs).tolist()
        lines.append(Line(name, f"{gain_W[-1]:+.4f}", list(zip(_times(ours), gain_W, strict=True)), True))
    return line_chart(lines, f"NDCG@10 gained over {stale}, all requests so far", 220, True) if lines else ""


def _interval(gap: Mapping[str, Any]) -> Interval:
    return gap["ndcg@10"], gap["low"], gap["high"]


def _cadences(summary: Summary) -> dict[str, Any] | None:
    if "cadences" not in summary:
        return None
    found = summary["cadences"]
    slowest = found["order"][0]
    gaps = found["against_slowest"]
    points: dict[str, tuple[float, float, float | None, float | None]] = {
        name: (found["costs"][name]["learn_s"], *_interval(gaps[name]))
        for name in reversed(found["order"])  # fastest first, as everywhere: so a cadence keeps its colour
        if name in gaps and gaps[name] is not None
    }
    points[slowest] = (found["costs"][slowest]["learn_s"], 0.0, None, None)
    steps = {step["faster"]: step["difference"] for step in found["steps"]}
    rows = []
    for name in found["order"]:
        cost, ndcg = found["costs"][name], summary["methods"][name]["ndcg@10"]
        updates = cost["updates"]
        rows.append(
            {
                "name": name,
                "updates": f"{updates:,}",
                "requests": f"{cost['learned_requests']:,}",
                "learn": f"{cost['learn_s']:,.1f}",
                "each": f"{cost['learn_s'] / updates:.2f}" if updates else "–",
                "score": f"{cost['score_s']:,.1f}",
                "ndcg": "–" if ndcg is None else f"{ndcg:.4f}",
                "slowest": short(found["against_slowest"][name]) if name != slowest else "–",
                "step": short(steps[name]) if name in steps else "–",
            }
        )
    chart = cost_chart(points, f"NDCG@10 over {slowest}, by cost of learning") if len(points) > 1 else ""
    return {"sentences": pays_sentences(found), "chart": chart, "rows": rows, "slowest": slowest}


def _gains(summary: Summary) -> dict[str, Any] | None:
    gaps = {name: part["freshness"] for name, part in summary["slices"].items()}
    if not summary["fresh"] or not summary["stale"] or not gaps:
        return None
    rows = {name: _interval(gap) for name, gap in gaps.items() if gap is not None}
    title = f"NDCG@10 of {summary['fresh']} minus {summary['stale']} by slice"
    movers = summary.get("movers")
    return {"sentences": slice_sentences(gaps), "chart": forest(rows, title) if rows else "", "movers": movers}


def _baselines(summary: Summary) -> dict[str, Any] | None:
    if not summary.get("against_baselines"):
        return None
    gaps = summary["against_baselines"]
    rows = {name: _interval(gap) for name, gap in gaps.items() if gap is not None}
    chart = forest(rows, f"NDCG@10 of {summary['fresh']} minus each baseline") if rows else ""
    return {"sentences": baseline_sentences(gaps, summary["fresh"]), "chart": chart, "costs": _baseline_costs(summary)}


def _baseline_costs(summary: Summary) -> list[dict[str, str]]:
    """Seconds of every method, the fresh model first; empty where they were not measured."""
    if "measured" not in summary or "cadences" not in summary:
        return []
    measured, cost = summary["measured"], summary["cadences"]["costs"][summary["fresh"]]
    spent = {summary["fresh"]: {"warm_up_s": measured["warm_up_s"], **cost}, **measured["baselines"]}
    keys = {"warm_up": "warm_up_s", "learn": "learn_s", "score": "score_s"}
    return [{"name": name, **{label: f"{one[key]:,.1f}" for label, key in keys.items()}} for name, one in spent.items()]


def _recall(summary: Summary) -> dict[str, Any] | None:
    if "candidate_recall" not in summary or not summary["candidate_recall"]["requests"]:
        return None
    found = summary["candidate_recall"]
    rows = {name: (row["recall"], row["low"], row["high"]) for name, row in found["sources"].items()}
    chart = bars(rows, f"Recall at {found['count']} of each candidate source")
    return {"chart": chart, **{key: found[key] for key in ("count", "requests", "track")}}


def _forgetting(summary: Summary) -> dict[str, Any] | None:
    found = {name: one for name, one in summary.get("forgetting", {}).items() if one is not None}
    if not found:
        return None
    lines = []
    for name, one in reversed(found.items()):  # fastest first, so a cadence keeps its colour
        points = [(row["at_s"], row["auc"]) for row in one["curve"]]
        lines.append(Line(name, f"{points[-1][1]:.4f}", points, True))
    return {
        "sentences": [forgetting_sentence(name, one, FORGETTING_LIMIT) for name, one in found.items()],
        "chart": line_chart(lines, "AUC of the first window's requests, by the model of each moment", 220),
    }


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
