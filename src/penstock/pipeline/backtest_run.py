"""`penstock backtest` from a folder to a folder: tracks and baselines run, rankings, summary and report written."""

import copy
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from penstock.data.dataset import read_dataset
from penstock.data.tables import replace_file
from penstock.evaluation.comparison import Bootstrap, RequestMetrics, curve, from_ranked, measure, summarise
from penstock.evaluation.prequential import RankedRequests, equal_windows
from penstock.evaluation.report import write_backtest_report
from penstock.pipeline.backtest import Backtest, Progress, Track, engine_of, interval_of
from penstock.pipeline.backtest_baselines import DEFAULT_NAMES, run_baselines
from penstock.settings import Settings

REQUESTS_FILE: dict[str, pl.DataType] = {
    "request_id": pl.Int64(),
    "user": pl.String(),
    "at": pl.Datetime("us"),
    "relevant": pl.List(pl.String()),
}
RANKINGS_FILE: dict[str, pl.DataType] = {"request_id": pl.Int64(), "items": pl.List(pl.String())}
NEW_USER_EVENTS = 3


def run_backtest(
    folder: Path, out: Path, settings: Settings, cadences: list[str], progress: Progress
) -> dict[str, Any]:
    """Replay the log in `folder` at every cadence and write what came of it into `out`.

    Writes requests.parquet, <cadence>/rankings.parquet, summary.json, curves.png and report.html.

    Args:
        cadences: "fresh" (learns after each protocol window), intervals as "1h", "never".
        progress: called with (what, done, all).

    Raises:
        SettingsError: a cadence that is none.
        DataError: the log cannot be replayed: too short, or columns missing.
    """
    started = time.perf_counter()
    intervals = {name: interval_of(name) for name in cadences}
    backtest = Backtest(read_dataset(folder), settings, settings.state.home / "graphs", progress)
    state, learner = backtest.warm_up()
    warmup_s = time.perf_counter() - started
    out.mkdir(parents=True, exist_ok=True)
    methods: dict[str, RankedRequests] = {}
    compute_s: dict[str, float] = {}
    facts: dict[str, Any] = {"warm_up_s": warmup_s, "warm_up_learn_s": learner.last_report.seconds}
    for name in sorted(cadences, key=lambda cadence: cadence == "never"):
        track = Track(
            name,
            copy.deepcopy(state),
            copy.deepcopy(learner) if name != "never" else learner,
            engine_of(learner, backtest.settings, backtest.cache),
            intervals[name],
        )
        for _ in backtest.run_track(track, learns=name != "never"):
            pass
        methods[name], compute_s[name] = track.ranked, track.learn_s
        facts[f"{name}_score_s"] = track.score_s
        _write_rankings(track.ranked, out / name)
    methods |= run_baselines(backtest, DEFAULT_NAMES)
    _write_requests(backtest, out)
    facts["total_s"] = time.perf_counter() - started
    return _report(backtest, methods, compute_s, facts, out)


def _write_requests(backtest: Backtest, out: Path) -> None:
    truth = list(backtest.truth.values())
    table = pl.DataFrame(
        {
            "request_id": [one.number for one in truth],
            "user": [one.user for one in truth],
            "at": [one.at.replace(tzinfo=None) for one in truth],
            "relevant": [one.relevant for one in truth],
        },
        schema=REQUESTS_FILE,
    )
    replace_file(out / "requests.parquet", table.write_parquet)


def _write_rankings(ranked: RankedRequests, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame({"request_id": ranked.request_id, "items": ranked.items}, schema=RANKINGS_FILE)
    replace_file(folder / "rankings.parquet", table.sort("request_id").write_parquet)


def _report(
    backtest: Backtest,
    methods: dict[str, RankedRequests],
    compute_s: dict[str, float],
    facts: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    settings = backtest.settings
    metrics = {name: _ordered(from_ranked(ranked)) for name, ranked in methods.items()}
    truth = list(backtest.truth.values())
    window_of = np.array([one.window for one in truth])
    starts = [
        datetime.fromtimestamp(window.start_s, UTC).isoformat()
        for window in equal_windows(backtest.stream, settings.backtest.windows)
    ]
    curves = {name: curve(one, window_of[one.request_R], starts) for name, one in metrics.items()}
    learning = [name for name in compute_s if name != "never"]
    protocol = {
        "data": backtest.dataset.meta.name,
        "events": len(backtest.warm) + len(backtest.stream),
        "requests": len(truth),
        "windows": settings.backtest.windows,
        "warmup": settings.backtest.warmup,
        "seed": settings.seed,
        "candidates": "items with an event before the window"
        + ("" if backtest.dataset.meta.repeats else ", less what the user already had"),
    }
    bootstrap = Bootstrap(settings.gates.bootstrap_resamples, settings.seed, settings.gates.confidence)
    fresh = learning[0] if learning else None
    stale = "never" if "never" in compute_s else None
    summary = summarise(metrics, _slices(backtest, methods), compute_s, protocol, bootstrap, fresh, stale)
    summary["measured"] = facts
    write_backtest_report(out, curves, summary)
    return summary


def _ordered(metrics: RequestMetrics) -> RequestMetrics:
    order = np.argsort(metrics.request_R, kind="stable")
    columns = ("request_R", "user_R", "ndcg_R", "hr_R", "mrr_R", "recall_R")
    return RequestMetrics(*(getattr(metrics, name)[order] for name in columns))


def _slices(backtest: Backtest, methods: dict[str, RankedRequests]) -> dict[str, dict[str, RequestMetrics]]:
    """New users: at most three earlier events. Young items: first seen in the window before the request's."""
    first_window: dict[str, int] = dict.fromkeys(backtest.warm["item_id"].unique().to_list(), -1)
    for window in equal_windows(backtest.stream, backtest.settings.backtest.windows):
        for item in window.events["item_id"].unique().to_list():
            first_window.setdefault(item, window.index)
    truth = list(backtest.truth.values())
    young = {
        one.number: kept
        for one in truth
        if (kept := [item for item in one.relevant if first_window.get(item) == one.window - 1 and one.window > 0])
    }
    slices: dict[str, dict[str, RequestMetrics]] = {"new users": {}, "young items": {}}
    for name, ranked in methods.items():
        metrics = from_ranked(ranked)
        slices["new users"][name] = _ordered(metrics.where(np.array(ranked.earlier_events) <= NEW_USER_EVENTS))
        rows = [place for place, number in enumerate(ranked.request_id) if number in young]
        part = measure(
            [ranked.request_id[row] for row in rows],
            [ranked.user[row] for row in rows],
            [ranked.items[row] for row in rows],
            [young[ranked.request_id[row]] for row in rows],
        )
        slices["young items"][name] = _ordered(part)
    return slices
