"""A simulated news site: how near the oracle, and what learning often and tuning the texts bring.

    python benchmarks/simulated_news.py --out OUT [--days 4] [--requests-per-day 4000]

Items live for six hours, so yesterday's model knows next to none of them. Their own quality spreads so far that click
rates do by .78 in log-odds, which is what they do among the articles of the MIND subset (.79, logit-normal fit).
`penstock backtest` replays the log at three cadences with the encoder tuned, and at the shortest with it frozen. Each
request ranks the ten items that were shown; the oracle ranks them by their true attraction, two others without a part
of it: what that part can bring at most. Differences are paired over requests, intervals over users. Writes
benchmarks/results/simulated_news.json.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import measure
from penstock.data.dataset import read_dataset
from penstock.data.simulate import TRUTH_FILE, oracle_scores, partial_truth, simulate_and_write
from penstock.metrics import bootstrap_mean, paired_bootstrap
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.backtest_run import run_backtest
from penstock.pipeline.backtest_store import BacktestStore
from penstock.pipeline.backtest_summary import read_outcome
from penstock.settings import Settings, load_settings

DAILY, NEVER = "1d", "never"
LIFE_H = 6.0
ON_OFFER = 100
QUALITY_SPREAD = 1.0
TARGETS = {"share of the oracle": 0.85, "fresh against daily": 0.10, "tuned against frozen": 0.05}


def note(what: str, done: int, total: int) -> None:
    """One progress line on stderr, rewritten in place."""
    print(f"\r{what}: {done}/{total}    ", end="", file=sys.stderr, flush=True)


def ndcg_of(data: Path, out: Path, settings: Settings, cadences: list[str]) -> tuple[dict[str, Any], Backtest, float]:
    """NDCG@10 of each scored request at each cadence, the protocol, and the seconds of it all."""
    started = time.perf_counter()
    run_backtest(data, out, settings, cadences, note, baselines=[])
    backtest = Backtest(read_dataset(data), settings, out / "graphs", note)
    wanted, store = backtest.wanted(), BacktestStore(out)
    ndcg = {
        name: wanted.metrics(read_outcome(wanted, store.cadence(name).scores(), name).rank_F).ndcg_R
        for name in cadences
    }
    return ndcg, backtest, time.perf_counter() - started


def oracle_of(backtest: Backtest, truth: pl.DataFrame) -> NDArray[np.float64]:
    """NDCG@10 of each scored request when ranked by the attraction in `truth`, in the order of `Backtest.wanted`."""
    scores = oracle_scores(backtest.grouped(backtest.dataset.events), truth)
    by_request = dict(zip(scores["request_id"].to_list(), scores["ndcg"].to_list(), strict=True))
    by_number = {one.number: by_request[request] for request, one in backtest.truth.items()}
    return np.array([by_number[number] for number in backtest.wanted().request_R.tolist()])


def compared(a_R: NDArray[np.float64], b_R: NDArray[np.float64], user_R: NDArray[np.str_]) -> dict[str, float]:
    """Mean of a minus b with its interval, and all three as shares of b's mean."""
    mean, low, high = paired_bootstrap(a_R, b_R, user_R, 1000, 7, 0.95)
    base = float(b_R.mean())
    return {"difference": mean, "low": low, "high": high} | {
        f"relative{name}": value / base for name, value in (("", mean), ("_low", low), ("_high", high))
    }


def main() -> None:
    """Simulate, replay twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--days", type=float, default=4.0)
    parser.add_argument("--requests-per-day", type=int, default=4000)
    parser.add_argument("--fresh", default="1h", help="the cadence that is held against daily")
    parser.add_argument("--warmup", type=float, default=0.4)
    options = parser.parse_args()
    fresh = options.fresh
    items = round(ON_OFFER * (options.days * 24 + LIFE_H) / LIFE_H)
    world = {"items": items, "users": 500, "days": options.days, "requests_per_day": options.requests_per_day}
    world |= {"item_life_h": LIFE_H, "quality_spread": QUALITY_SPREAD}
    settings = load_settings().override(
        {f"simulate.{key}": value for key, value in world.items()}
        | {"backtest.warmup": options.warmup, "state.home": str(options.out / "home")}
    )
    data = options.out / "data"
    simulate_and_write(settings.simulate, settings.seed, data)
    tuned, backtest, tuned_s = ndcg_of(data, options.out / "tuned", settings, [fresh, DAILY, NEVER])
    frozen, _, frozen_s = ndcg_of(data, options.out / "frozen", settings.override({"text.tuning": "frozen"}), [fresh])
    user_R, oracle_R = backtest.wanted().user_R, oracle_of(backtest, pl.read_parquet(data / TRUTH_FILE))
    lacking = {
        f"oracle without {part}": oracle_of(backtest, partial_truth(settings.simulate, settings.seed, part))
        for part in ("items", "style")
    }
    found = {
        "fresh against daily": compared(tuned[fresh], tuned[DAILY], user_R),
        "fresh against never": compared(tuned[fresh], tuned[NEVER], user_R),
        "tuned against frozen": compared(tuned[fresh], frozen[fresh], user_R),
    }
    against = compared(tuned[fresh], oracle_R, user_R)
    share = {key.removeprefix("relative"): 1 + value for key, value in against.items() if key.startswith("relative")}
    methods = {**tuned, f"{fresh}, frozen": frozen[fresh], "oracle": oracle_R} | lacking
    measure.save(
        "simulated_news",
        {
            "world": world | {"warmup": options.warmup, "seed": settings.seed},
            "fresh": fresh,
            "scored_requests": len(user_R),
            "users": len(np.unique(user_R)),
            "ndcg@10": {
                name: dict(zip(("mean", "low", "high"), bootstrap_mean(one, user_R, 1000, 7, 0.95), strict=True))
                for name, one in methods.items()
            },
            "share of the oracle": {"mean": share[""], "low": share["_low"], "high": share["_high"]},
            **found,
            "targets": TARGETS,
            "seconds": {"tuned, three cadences": tuned_s, "frozen, fresh only": frozen_s},
        },
    )


if __name__ == "__main__":
    main()
