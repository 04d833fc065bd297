"""The bundled log as the demo plays it: moved to end now, cut into windows, and damaged on purpose."""

from datetime import datetime

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset


def moved_to_end(dataset: Dataset, end: datetime) -> Dataset:
    """The same log and catalogue, every time moved by one shift so that the last event happens at `end`."""
    last = dataset.events["at"].max()
    assert isinstance(last, datetime)  # a dataset without events cannot be read
    shift = end - last
    events = dataset.events.with_columns(pl.col("at") + shift, pl.col("received_at") + shift)
    catalogue = dataset.catalogue.with_columns(pl.col("published_at") + shift)
    return Dataset(events, catalogue, dataset.meta)


def warm_up_and_windows(events: pl.DataFrame, warm_up: float, windows: int) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The first share of the events, and the rest in windows of equal duration; none of them empty.

    Args:
        warm_up: share of the events, in (0, 1).
    """
    ordered = events.sort("at", "event_id")
    first = int(len(ordered) * warm_up)
    warm, rest = ordered.head(first), ordered.tail(len(ordered) - first)
    at_us = rest["at"].to_physical().to_numpy()
    edges = np.linspace(at_us[0], at_us[-1] + 1, windows + 1)
    index = np.searchsorted(edges, at_us, side="right") - 1
    cut = rest.with_columns(pl.Series("window", index))
    return warm, [part.drop("window") for _, part in sorted(cut.group_by("window"), key=lambda pair: pair[0])]


def corrupted(events: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """A copy under new event ids in which a seeded share of the rows names items that no catalogue knows."""
    broken = pl.Series(np.random.default_rng(seed).random(len(events)) < share)
    unknown = pl.lit("no-such-item-") + pl.col("item_id")
    return events.with_columns(
        ("corrupt-" + pl.col("event_id")).alias("event_id"),
        pl.when(broken).then(unknown).otherwise("item_id").alias("item_id"),
    )
