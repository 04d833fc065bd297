"""The order in which simulated events reach a collector: late ones late, and some twice."""

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset

DUPLICATE_SHARE = 0.01


def arrivals(dataset: Dataset, seed: int) -> pl.DataFrame:
    """Events by the time they were received, about one in a hundred delivered a second time.

    A second delivery has the same event_id and content, and a later received_at.

    Args:
        dataset: events with unique ids.
        seed: which events come twice, and how much later.

    Returns:
        records.EVENT_COLUMNS, sorted by (received_at, event_id); more rows than the dataset has events.
    """
    rng = np.random.default_rng([seed, 2])
    events = dataset.events
    twice = np.flatnonzero(rng.random(len(events)) < DUPLICATE_SHARE)
    again_us = (1_000_000 * (1 + rng.exponential(60, len(twice)))).astype(np.int64)
    repeated = events[twice].with_columns(pl.col("received_at") + pl.Series(again_us).cast(pl.Duration("us")))
    return pl.concat([events, repeated]).sort("received_at", "event_id", maintain_order=True)
