"""The requests that the speed of learning is measured on: about 2,000 distinct titles, 20 past items, 5 shown.

Simulated and seeded; every method gets the same requests, and is scored on the requests that came next.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.requests import group_requests
from penstock.data.simulate import simulate
from penstock.features.examples import Examples, Sampler, build_examples
from penstock.features.state import CausalState, FeatureSpec
from penstock.metrics import ndcg_at, relevant_ranks
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
PAST, SHOWN = 20, 5
SIZES = {
    "simulate.items": 2100,
    "simulate.users": 300,
    "simulate.days": 4,
    "simulate.requests_per_day": 4000,
    "simulate.shown": SHOWN,
    "simulate.item_life_h": 2000,
    "features.history_length": PAST,
}


@dataclass(frozen=True)
class Workload:
    """`learned`: a round. `following`: the requests after it. `feature_s`: seconds of making the round's arrays."""

    settings: Settings
    spec: FeatureSpec
    state: CausalState
    texts: list[str]
    learned: Examples
    following: Examples
    feature_s: float


def make_settings(home: Path, **changes: object) -> Settings:
    """params.yaml with the workload's sizes, everything written under `home`."""
    return load_settings(ROOT / "params.yaml", {}).override({"state.home": str(home), **SIZES, **changes})


def make_workload(settings: Settings, requests: int, following: int, extra_items: int = 0) -> Workload:
    """Simulate, warm the counters with what came before, and build the arrays of a round and of what followed.

    Args:
        requests, following: how many requests that led to something.
        extra_items: items more in the catalogue that nobody is shown.
    """
    dataset, _ = simulate(settings.simulate, settings.seed)
    catalogue = dataset.catalogue.with_columns(body=pl.lit(None, pl.String), category=pl.lit(None, pl.String))
    texts = catalogue["title"].to_list()
    if extra_items:
        more = simulate(settings.override({"simulate.items": extra_items}).simulate, settings.seed + 1)[0].catalogue
        dormant = more.with_columns(
            item_id=pl.lit("dormant-") + pl.col("item_id"), title=pl.col("title") + pl.lit(", second hand"),
            body=pl.lit(None, pl.String), category=pl.lit(None, pl.String),
        )  # fmt: skip
        catalogue = pl.concat([catalogue, dormant])
        texts += dormant["title"].to_list()
    state = CausalState(FeatureSpec.of(settings))
    state.add_items(catalogue)
    events = dataset.events.sort("at", "event_id")
    grouped = group_requests(events, settings.data.gains, settings.data.positive_rating_min)
    led = grouped.filter(pl.col("relevant").list.len() > 0)
    if len(led) < requests + following:
        raise SystemExit(f"{len(led)} simulated requests led to something; asked for {requests} + {following}")
    led = led.tail(requests + following)
    edge, last = led["at"][0], led["at"][requests]
    state.observe(events.filter(pl.col("at") < edge))
    sampler = Sampler(settings.training.negatives, settings.training.popular_negative_share, settings.seed)
    started = time.perf_counter()
    learned = build_examples(
        state, events.filter((pl.col("at") >= edge) & (pl.col("at") < last)), led.head(requests), "event", sampler
    )
    feature_s = time.perf_counter() - started
    after = build_examples(state, events.filter(pl.col("at") >= last), led.tail(following), "event", sampler)
    return Workload(settings, state.spec, state, texts, learned, after, feature_s)


def ndcg(score_RC: np.ndarray, examples: Examples) -> float:
    """Mean NDCG@10, binary gain, of scores over the shown items."""
    row: list[int] = []
    rank: list[int] = []
    for index, (score_C, gain_C, mask_C) in enumerate(zip(score_RC, examples.gain_RC, examples.mask_RC, strict=True)):
        found = relevant_ranks(score_C[mask_C], gain_C[mask_C] > 0).tolist()
        row.extend([index] * len(found))
        rank.extend(found)
    return float(ndcg_at(row, rank, (examples.gain_RC > 0).sum(1), 10).mean())
