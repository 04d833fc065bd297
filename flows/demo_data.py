"""The bundled log as the demo plays it: moved to end now, cut into windows, and damaged on purpose."""

from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.journal import Journal


def moved_to_end(dataset: Dataset, end: datetime) -> Dataset:
    """The same log and catalogue, every time moved by one shift so that the last event happens at `end`."""
    last = dataset.events["at"].max()
    assert isinstance(last, datetime)  # a dataset without events cannot be read
    shift = end - last
    events = dataset.events.with_columns(pl.col("at") + shift, pl.col("received_at") + shift)
    catalogue = dataset.catalogue.with_columns(pl.col("published_at") + shift)
    return Dataset(events, catalogue, dataset.meta)


def warm_up_and_windows(events: pl.DataFrame, warm_up: float, windows: int) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The first share of the events in time order, and the rest in windows of as many events each.

    Args:
        warm_up: share of the events, in (0, 1).
    """
    ordered = events.sort("at", "event_id")
    edges = np.linspace(int(len(ordered) * warm_up), len(ordered), windows + 1).astype(int).tolist()
    return ordered[: edges[0]], [ordered[start:end] for start, end in pairwise(edges)]


def named_by(journal: Journal, events: pl.DataFrame) -> pl.DataFrame:
    """The events with their users under the names that the journal knows them by."""
    names = {user: journal.name_of(user) for user in events["user_id"].unique()}
    return events.with_columns(pl.col("user_id").replace_strict(names, return_dtype=pl.String))


def corrupted(events: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """A copy under new event ids in which a seeded share of the rows names items that no catalogue knows."""
    broken = pl.Series(np.random.default_rng(seed).random(len(events)) < share)
    unknown = pl.lit("no-such-item-") + pl.col("item_id")
    return events.with_columns(
        ("corrupt-" + pl.col("event_id")).alias("event_id"),
        pl.when(broken).then(unknown).otherwise("item_id").alias("item_id"),
    )


def little_shown(dataset: Dataset, recommended: set[str], count: int = 5) -> pl.DataFrame:
    """The catalogue's newest `count` items of the category that a user's recommendations hold least of."""
    catalogue = dataset.catalogue.filter(pl.col("category").is_not_null(), ~pl.col("item_id").is_in(recommended))
    shown = dataset.catalogue.filter(pl.col("item_id").is_in(recommended))["category"].to_list()
    sizes = catalogue["category"].value_counts().filter(pl.col("count") >= count)
    least = min(sizes.sort("category").iter_rows(), key=lambda row: (shown.count(row[0]), -row[1]))[0]
    return catalogue.filter(pl.col("category") == least).sort("published_at", "item_id", descending=True).head(count)
