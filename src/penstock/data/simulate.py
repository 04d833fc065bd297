"""A simulated marketplace whose click probabilities are known, so quality can be stated as a share of the possible.

Items with readable titles are born and retired all the time; interests drift; topics and items have bursts of
popularity; positions bias clicks; purchases and ratings follow clicks; one event in a hundred is late and, in
`arrivals`, one in a hundred comes twice. Everything follows from the settings and the seed.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset, DatasetMeta, write_dataset
from penstock.data.simulated.arrivals import arrivals
from penstock.data.simulated.behaviour import Shown, attraction, follow, received_delay_h, show
from penstock.data.simulated.oracle import oracle_ndcg, oracle_scores
from penstock.data.simulated.texts import topics
from penstock.data.simulated.world import Floats, Ints, Items, World, make_world
from penstock.data.tables import conform, write_table
from penstock.records import AT, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, EVENT_COLUMNS, EVENT_REQUIRED
from penstock.settings import SimulateSettings

__all__ = ["TRUTH_FILE", "arrivals", "oracle_ndcg", "oracle_scores", "partial_truth", "simulate", "simulate_and_write"]

TRUTH_FILE = "truth.parquet"
START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR_US = 3_600_000_000


def simulate(settings: SimulateSettings, seed: int) -> tuple[Dataset, pl.DataFrame]:
    """Draw a marketplace and its log.

    `propensity` of an event is the true chance that its position was looked at.

    Args:
        settings: sizes; see params.yaml.
        seed: the same seed gives the same tables.

    Returns:
        The dataset, and the truth: request_id, item_id, probability (of a click where it was shown) and attraction
        (of a click once looked at, whatever the position), one row per impression.

    Raises:
        SettingsError: too few items for the time and their lives.
    """
    world, shown, followed_rng, delay_rng = _drawn(settings, seed)
    events = _events(world, shown, followed_rng, delay_rng)
    kinds = sorted(events["kind"].unique())
    meta = DatasetMeta("market", "rank", True, "impressions", kinds, f"simulated, seed {seed}")
    truth = pl.DataFrame(
        {
            "request_id": _names("r", shown.request, 7),
            "item_id": _names("item-", shown.item, 5),
            "probability": shown.probability,
            "attraction": shown.attraction,
        }
    )
    return Dataset(events, _catalogue(world.items), meta), truth


def partial_truth(settings: SimulateSettings, seed: int, without: Literal["items", "style"]) -> pl.DataFrame:
    """The truth of an oracle that lacks a part of it: request_id, item_id, attraction of every impression.

    What it ranks worse than the full one is the most that the part can bring anybody who knows all the rest. `items`:
    what an item is beyond its text, its own quality and bursts; `style`: what users think of a text's style.

    Raises:
        SettingsError: as `simulate`.
    """
    world, shown, _, _ = _drawn(settings, seed)
    names = {"request_id": _names("r", shown.request, 7), "item_id": _names("item-", shown.item, 5)}
    return pl.DataFrame(names | {"attraction": attraction(world.without(without), shown)})


def _drawn(settings: SimulateSettings, seed: int) -> tuple[World, Shown, np.random.Generator, np.random.Generator]:
    """World and what is shown in it, and what the rest of the log is drawn with: follow-ups, then delays."""
    world_rng, shown_rng, followed_rng, delay_rng = np.random.default_rng([seed, 1]).spawn(4)
    world = make_world(settings, world_rng)
    return world, show(world, settings, shown_rng), followed_rng, delay_rng


def simulate_and_write(settings: SimulateSettings, seed: int, into: Path) -> Dataset:
    """Simulate and write the dataset folder, with the truth beside it as truth.parquet.

    Raises:
        SettingsError: too few items for the time and their lives.
        DataError: the folder cannot be written.
    """
    dataset, truth = simulate(settings, seed)
    write_dataset(dataset, into)
    write_table(truth.with_columns(pl.col("probability", "attraction").cast(pl.Float32)), into / TRUTH_FILE)
    return dataset


def _events(
    world: World, shown: Shown, followed_rng: np.random.Generator, delay_rng: np.random.Generator
) -> pl.DataFrame:
    parts = [_part("impression", shown, np.arange(len(shown.item)), shown.at_h, None)]
    parts += [_part(done.kind, shown, done.row, done.at_h, done.value) for done in follow(world, shown, followed_rng)]
    events = pl.concat(parts).sort("at", "event_id")
    delay_us = (received_delay_h(np.empty(len(events)), delay_rng) * HOUR_US).astype(np.int64)
    events = events.with_columns(received_at=pl.col("at") + pl.Series(delay_us).cast(pl.Duration("us")))
    return conform(events, EVENT_COLUMNS, EVENT_REQUIRED, "simulated events")


def _part(kind: str, shown: Shown, row: Ints, at_h: Floats, value: Floats | None) -> pl.DataFrame:
    request, impression = _names("r", shown.request[row], 7), kind == "impression"
    name = pl.format("{}-{}", "request_id", pl.col("place").cast(pl.String).str.zfill(2))
    return pl.DataFrame(
        {
            "request_id": request,
            "user_id": _names("user-", shown.user[row], 5),
            "item_id": _names("item-", shown.item[row], 5),
            "at": _times(at_h),
            "place": shown.position[row],
            "propensity": shown.looked_at[row],
            "value": pl.Series(value if value is not None else [None] * len(row), dtype=pl.Float64),
        }
    ).select(
        "request_id", "user_id", "item_id", "at", "propensity", "value",
        event_id=name if impression else pl.format("{}-{}", name, pl.lit(kind)),
        kind=pl.lit(kind),
        position=pl.col("place").cast(pl.Int32) if impression else pl.lit(None, dtype=pl.Int32),
        query=pl.lit(None, dtype=pl.String),
    )  # fmt: skip


def _catalogue(items: Items) -> pl.DataFrame:
    kinds = topics()
    ends_at = [(START + timedelta(hours=hours)).isoformat("T", "seconds") for hours in items.retired_h_I.tolist()]
    attributes = [
        json.dumps({"price": price, "maker": text.maker, "ends_at": end})
        for price, text, end in zip(items.price_I.tolist(), items.texts, ends_at, strict=True)
    ]
    table = pl.DataFrame(
        {
            "item_id": _names("item-", np.arange(len(items.texts)), 5),
            "title": [text.title for text in items.texts],
            "body": [text.body for text in items.texts],
            "category": [kinds[topic].category for topic in items.topic_I],
            "published_at": _times(items.born_h_I),
            "attributes": attributes,
        }
    )
    return conform(table, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, "simulated catalogue")


def _times(hours: Floats) -> pl.Series:
    start_us = int(START.timestamp()) * 1_000_000
    return pl.Series((start_us + np.round(hours * HOUR_US)).astype(np.int64)).cast(AT)


def _names(prefix: str, number: Ints, digits: int) -> pl.Series:
    return pl.select(pl.lit(prefix) + pl.Series(number).cast(pl.String).str.zfill(digits)).to_series()
