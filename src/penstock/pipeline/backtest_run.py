"""`penstock backtest` from a folder to a folder: tracks and baselines run, rankings, summary and report written.

Everything is taken up where it was left: see `backtest_store` for what is kept, `backtest_track` for how.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from penstock.data.dataset import read_dataset
from penstock.data.tables import replace_file
from penstock.pipeline.backtest import Backtest, Progress, interval_of
from penstock.pipeline.backtest_baselines import DEFAULT_NAMES, STALE, applicable, each_baseline
from penstock.pipeline.backtest_fingerprint import fingerprint
from penstock.pipeline.backtest_store import (
    PART_FILE,
    REQUESTS,
    REQUESTS_FILE,
    BacktestStore,
    write_json,
)
from penstock.pipeline.backtest_summary import report
from penstock.pipeline.backtest_track import NEVER, TrackRun
from penstock.settings import Settings
from penstock.training.checkpoint import Carried, save_checkpoint

RECALL_REQUESTS = 500


def run_backtest(
    folder: Path,
    out: Path,
    settings: Settings,
    cadences: list[str],
    progress: Progress,
    baselines: Sequence[str] | None = DEFAULT_NAMES,
    restart: bool = False,
) -> dict[str, Any]:
    """Replay the log in `folder` at every cadence and write what came of it into `out`.

    Killed at any point and started again with the same arguments it goes on after the last kept window of each track,
    and what it writes is the same to the bit (times apart).

    Writes requests.parquet, <cadence>/rankings.parquet, baselines/<name>/rankings.parquet, summary.json, curves.png
    and report.html.

    Args:
        cadences: "fresh" (learns after each protocol window), intervals as "1h", "never".
        progress: called with (what, done, all); "backtest" is the whole.
        baselines: names of `backtest_baselines`; None: all that the log allows.
        restart: forget what `out` holds.

    Raises:
        SettingsError: a cadence that is none.
        DataError: the log cannot be replayed: too short, or columns missing.
        StateError: `out` holds a backtest of another log, other settings or arguments, or one that is running.
    """
    intervals = {name: interval_of(name) for name in cadences}
    ordered = sorted(intervals, key=lambda name: name == NEVER)
    dataset = read_dataset(folder)
    overall = Overall(progress)
    backtest = Backtest(dataset, settings, settings.state.home / "graphs", overall)
    store = BacktestStore(out)
    out.mkdir(parents=True, exist_ok=True)
    with store.lock():
        names = applicable(backtest) if baselines is None else list(baselines)
        arguments = {"cadences": list(cadences), "baselines": names}
        store.claim(fingerprint(folder, settings, arguments), restart)
        write_requests(backtest, out)
        runs = [TrackRun(backtest, store, name, sampled(backtest) if name == ordered[0] else set()) for name in ordered]
        windows = settings.backtest.windows
        overall.expect({"warm-up": windows}, {run.name: len(run.groups) for run in runs}, dict.fromkeys(names, windows))
        if not all(run.kept.finished for run in runs):
            warm_up(backtest, store)
        overall("warm-up", windows, windows)
        for run in runs:
            run.run()
            overall(run.name, len(run.groups), len(run.groups))
        shutil.rmtree(store.warm_up, ignore_errors=True)
        kept = keep_baselines(backtest, store, names, overall)
        return report(backtest, store, ordered, kept)


class Overall:
    """Passes progress on, and adds up all that is known to come as "backtest"."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.done: dict[str, int] = {}
        self.total: dict[str, int] = {}

    def expect(self, *parts: dict[str, int]) -> None:
        """Name what will come, with its number of windows."""
        for part in parts:
            self.total |= part

    def __call__(self, what: str, done: int, total: int) -> None:
        if (self.done.get(what), self.total.get(what)) == (done, total):
            return
        self.done[what], self.total[what] = done, total
        self.progress(what, done, total)
        self.progress("backtest", sum(self.done.values()), sum(self.total.values()))


def warm_up(backtest: Backtest, store: BacktestStore) -> None:
    """Learn the first part of the log, and keep what every track starts from; does nothing where it is kept."""
    if (store.warm_up / "meta.json").exists():
        return
    started = time.perf_counter()
    state, learner = backtest.warm_up()
    facts = {"warm_up_s": time.perf_counter() - started, "warm_up_learn_s": learner.last_report.seconds}
    store.progress.mkdir(parents=True, exist_ok=True)
    write_json(store.progress / "warm-up.json", facts)
    save_checkpoint(learner, state, Carried(), store.warm_up)


def keep_baselines(backtest: Backtest, store: BacktestStore, names: list[str], progress: Progress) -> list[str]:
    """Rank with each baseline that is not kept yet, one in memory at a time; the names of those that apply."""
    finished = [name for name in names if store.baseline(name).finished]
    if len(finished) < len(names):
        for name, run, chosen in each_baseline(backtest, names, finished):
            ranked = run.ranked
            columns = {
                "request_id": ranked.request_id,
                "items": ranked.items,
                "ranks": backtest.ranks(ranked.request_id, ranked.items),
                "widened": [None] * len(ranked.items),
                "auc": ranked.auc,
                "earlier": ranked.earlier_events,
            }
            kept = store.baseline(name)
            kept.write_part(0, pl.DataFrame(columns, schema=PART_FILE).sort("request_id"), {})
            seconds = {"learn_s": run.learn_s, "warm_up_s": run.warm_up_s, "score_s": run.score_s}
            kept.finish(1, {**seconds, "setting": chosen.get(name.removesuffix(STALE))})
    for name in names:
        progress(name, backtest.settings.backtest.windows, backtest.settings.backtest.windows)
    return [name for name in names if store.baseline(name).finished]


def sampled(backtest: Backtest) -> set[int]:
    """The requests whose candidate sources are measured: a seeded sample of the scored ones."""
    random = np.random.default_rng(backtest.settings.seed)
    numbers = np.array(sorted(backtest.by_number), np.int64)
    return set(random.permutation(numbers)[:RECALL_REQUESTS].tolist())


def write_requests(backtest: Backtest, out: Path) -> None:
    """OUT/requests.parquet, as the protocol's scorer reads it."""
    truth = list(backtest.truth.values())
    columns = {
        "request_id": [one.number for one in truth],
        "user": [one.user for one in truth],
        "at": [one.at.replace(tzinfo=None) for one in truth],
        "relevant": [one.relevant for one in truth],
    }
    replace_file(out / REQUESTS, pl.DataFrame(columns, schema=REQUESTS_FILE).write_parquet)
