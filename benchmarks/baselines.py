"""Every baseline on a log under the backtest's protocol: quality, what it costs, and the settings that were chosen.

    python benchmarks/baselines.py DATA [--names A B ...] [--retrain EVERY] [--out FILE]

DATA is a dataset folder as `penstock import` writes it. The settings come from the last quarter of the warm-up. Each
method is printed, and written to FILE as JSON, as soon as it is done. `--retrain` adds the full retrain of our model
after every so many windows, with its seconds.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from penstock.data.dataset import read_dataset
from penstock.evaluation.prequential import RankedRequests
from penstock.metrics import bootstrap_mean
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.backtest_baselines import CONTENDERS, STALE, each_baseline
from penstock.pipeline.retrain import run_retrain
from penstock.settings import Settings, load_settings

NEW_USER_EVENTS = 3
ALL = (*CONTENDERS, f"tuned blend{STALE}", f"online linear ranker{STALE}", f"SASRec{STALE}")


def note(what: str, done: int, total: int) -> None:
    """One progress line on stderr, rewritten in place."""
    print(f"\r{what}: {done}/{total}    ", end="", file=sys.stderr, flush=True)


def row(ranked: RankedRequests, settings: Settings) -> dict[str, Any]:
    """Means over requests, the interval of NDCG@10 over users, and new users alone."""
    gates = settings.gates
    user = np.array(ranked.user)
    _, low, high = bootstrap_mean(
        np.array(ranked.ndcg), user, gates.bootstrap_resamples, settings.seed, gates.confidence
    )
    new = np.array(ranked.earlier_events) <= NEW_USER_EVENTS
    return ranked.means() | {
        "ndcg_low": low,
        "ndcg_high": high,
        "ndcg_new_users": float(np.array(ranked.ndcg)[new].mean()) if new.any() else None,
    }


def line(name: str, found: dict[str, Any]) -> str:
    """A row of the table: NDCG@10 [95%], HR@10, Recall@100, new users, seconds of warm-up, learning and ranking."""
    new = found["ndcg_new_users"]
    return (
        f"| {name} | {found['ndcg']:.4f} [{found['ndcg_low']:.3f}, {found['ndcg_high']:.3f}] | {found['hr']:.3f} "
        f"| {found['recall']:.3f} | {'–' if new is None else format(new, '.3f')} "
        f"| {' + '.join(format(found['seconds'][part], '.0f') for part in ('warm_up', 'learn', 'score'))} |"
    )


def main() -> None:
    """One log, one method after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--names", nargs="*", default=list(ALL), metavar="NAME", help="; ".join(ALL))
    parser.add_argument("--retrain", type=int)
    parser.add_argument("--out", type=Path, default=Path("artifacts/baselines.json"))
    options = parser.parse_args()
    settings = load_settings()
    backtest = Backtest(read_dataset(options.data), settings, settings.state.home / "graphs", note)
    result: dict[str, Any] = {"data": backtest.dataset.meta.name, "requests": len(backtest.truth), "methods": {}}
    options.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(name: str, ranked: RankedRequests, seconds: dict[str, float]) -> None:
        result["methods"][name] = row(ranked, settings) | {"seconds": seconds}
        options.out.write_text(json.dumps(result, indent=1))
        print("\r" + line(name, result["methods"][name]), flush=True)

    for name, run, chosen in each_baseline(backtest, options.names):
        result["settings"] = chosen
        keep(name, run.ranked, {"warm_up": run.warm_up_s, "learn": run.learn_s, "score": run.score_s})
    if options.retrain:
        found = run_retrain(backtest, options.retrain)
        result["retrain"] = {"every": found.every, "windows": found.windows, "seconds": found.seconds}
        each = found.seconds_at_each_window()
        keep(
            f"full retrain, every {found.every} windows",
            found.ranked,
            {"warm_up": found.seconds[0], "learn": each, "score": 0.0},
        )


if __name__ == "__main__":
    main()
