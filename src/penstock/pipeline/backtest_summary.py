"""What a finished backtest came to: read back from its folder, compared, written as summary.json and report.html."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from penstock.errors import GateError
from penstock.evaluation.cadences import (
    Cost,
    compare_cadences,
    forgetting,
    forgetting_curve,
    gains_and_losses,
    recall_of_sources,
    slowest_first,
)
from penstock.evaluation.comparison import Bootstrap, curve, difference, summarise
from penstock.evaluation.outcomes import Outcome, Wanted
from penstock.evaluation.report import write_backtest_report
from penstock.evaluation.slices import find_slices
from penstock.pipeline.backtest import Backtest, interval_of
from penstock.pipeline.backtest_recall import LABELS
from penstock.pipeline.backtest_store import BacktestStore, read_json
from penstock.pipeline.backtest_track import MOMENTS, NEVER


def report(backtest: Backtest, store: BacktestStore, cadences: list[str], baselines: list[str]) -> dict[str, Any]:
    """Compare what the methods left in `store`, write summary.json, curves.png and report.html, return the summary.

    Memory: a rank per method and wanted item; no ranking is read.

    Raises:
        GateError: a method that did not rank every request.
    """
    settings, wanted = backtest.settings, backtest.wanted()
    windows = backtest.windows(None)
    kept = {name: store.cadence(name) for name in cadences} | {name: store.baseline(name) for name in baselines}
    outcomes = {name: read_outcome(wanted, one.scores(), name) for name, one in kept.items()}
    facts = {name: kept[name].facts() for name in kept}
    costs = {name: _cost(backtest, name, facts[name]) for name in cadences}
    order = slowest_first(costs)
    learning = [name for name in order if name != NEVER]
    fresh, stale = learning[-1] if learning else None, NEVER if NEVER in cadences else None
    bootstrap = Bootstrap(settings.gates.bootstrap_resamples, settings.seed, settings.gates.confidence)
    metrics = {name: wanted.metrics(one.rank_F) for name, one in outcomes.items()}
    earlier_R = outcomes[cadences[0]].earlier_R
    slices = find_slices(wanted, earlier_R, backtest.warm, windows, backtest.dataset.catalogue)
    compute_s = {name: costs[name].learn_s for name in reversed(order)}
    measured = slices.measured(wanted, outcomes)
    summary = summarise(metrics, measured, compute_s, _protocol(backtest), bootstrap, fresh, stale)
    users = dict(zip(wanted.request_R.tolist(), wanted.user_R.tolist(), strict=True))
    summary["cadences"] = compare_cadences({name: metrics[name] for name in cadences}, costs, bootstrap)
    if fresh:
        gaps = {name: difference(metrics[fresh], metrics[name], bootstrap) for name in baselines}
        summary["against_baselines"] = gaps
    if fresh and stale:
        titles = dict(backtest.dataset.catalogue.select("item_id", "title").iter_rows())
        summary["movers"] = gains_and_losses(wanted, outcomes[fresh], outcomes[stale], titles)
    summary["forgetting"] = {name: _forgetting(users, facts[name], bootstrap) for name in learning}
    summary["candidate_recall"] = _recall(backtest, facts, users, bootstrap)
    summary["measured"] = _measured(store, facts, cadences, baselines)
    starts = [datetime.fromtimestamp(window.start_s, UTC).isoformat() for window in windows]
    curves = {name: curve(one, wanted.window_R, starts) for name, one in metrics.items()}
    write_backtest_report(store.out, curves, summary)
    return summary


def read_outcome(wanted: Wanted, scores: pl.DataFrame, name: str) -> Outcome:
    """A method's ranks beside what was wanted.

    Raises:
        GateError: it did not rank the same requests.
    """
    if not np.array_equal(scores["request_id"].to_numpy(), wanted.request_R):
        raise GateError(
            f"{name}: {len(scores)} requests were ranked, {len(wanted)} were asked; they must be the same ones: start "
            "the backtest anew with --restart"
        )
    size_R = np.bincount(wanted.owner_F, minlength=len(wanted)).tolist()
    rank_F = scores["ranks"].explode().to_numpy().astype(np.int64)
    wide = scores["widened"]
    widened_F = None
    if wide.null_count() < len(wide):
        rows = zip(wide.to_list(), size_R, strict=True)
        widened_F = np.array([rank for row, size in rows for rank in (row or [-1] * size)], np.int64)
    auc_R = scores["auc"].fill_null(float("nan")).to_numpy().astype(np.float64)
    return Outcome(rank_F, auc_R, scores["earlier"].to_numpy().astype(np.int64), widened_F)


def _protocol(backtest: Backtest) -> dict[str, Any]:
    settings, meta = backtest.settings, backtest.dataset.meta
    return {
        "data": meta.name,
        "events": len(backtest.warm) + len(backtest.stream),
        "requests": len(backtest.truth),
        "windows": settings.backtest.windows,
        "warmup": settings.backtest.warmup,
        "seed": settings.seed,
        "candidates": "items with an event before the window"
        + ("" if meta.repeats else ", less what the user already had")
        + (", or the logged list where one was shown" if meta.logged == "impressions" else ""),
    }


def _cost(backtest: Backtest, name: str, facts: Mapping[str, Any]) -> Cost:
    every_s = interval_of(name)
    if name != NEVER and every_s is None:
        windows = backtest.windows(None)
        every_s = windows[0].end_s - windows[0].start_s
    return Cost(every_s, facts["learn_s"], facts["score_s"], facts["updates"], facts["learned_requests"])


def _forgetting(users: Mapping[int, str], facts: Mapping[str, Any], bootstrap: Bootstrap) -> dict[str, Any] | None:
    """What of the first stream window one cadence still knew at the end, and on the way there."""
    moments = _moments(facts["first_window"])
    found = forgetting(users, {name: moments[name] for name in MOMENTS}, bootstrap)
    if found is None:
        return None
    return found | {"curve": forgetting_curve(users, moments, facts["first_window_at_s"], bootstrap)}


def _moments(first_window: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[int, float | None]]:
    return {moment: {int(key): value for key, value in one.items()} for moment, one in first_window.items()}


def _recall(
    backtest: Backtest, facts: Mapping[str, Any], users: Mapping[int, str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The candidate sources on the one track that measured them."""
    track, found = next(((name, one["recall"]) for name, one in facts.items() if one.get("recall")), (None, {}))
    by_request = {int(key): value for key, value in found.items()}
    sources = recall_of_sources(by_request, users, list(LABELS.values()), bootstrap)
    count = backtest.settings.service.candidates
    return {"count": count, "requests": len(by_request), "track": track, "sources": sources}


def _measured(
    store: BacktestStore, facts: Mapping[str, Any], cadences: list[str], baselines: list[str]
) -> dict[str, Any]:
    """Seconds of every part, summed over all the runs that it took."""
    found: dict[str, Any] = read_json(store.progress / "warm-up.json")
    found |= {f"{name}_score_s": facts[name]["score_s"] for name in cadences}
    keys = ("learn_s", "warm_up_s", "score_s")
    spent = sum(facts[name]["learn_s"] + facts[name]["score_s"] for name in cadences)
    spent += sum(facts[name][key] for name in baselines for key in keys)
    found["total_s"] = found["warm_up_s"] + spent
    found["baselines"] = {name: {key: facts[name][key] for key in (*keys, "setting")} for name in baselines}
    return found
