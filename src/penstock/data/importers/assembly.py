"""From an importer's rows to the dataset's two tables."""

from typing import Literal

import polars as pl

from penstock.data.dataset import NO_TEXT, Dataset, DatasetMeta
from penstock.data.tables import conform
from penstock.errors import EmptyWindow
from penstock.records import CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, EVENT_COLUMNS, EVENT_REQUIRED, Task


def assemble(
    events: pl.DataFrame,
    catalogue: pl.DataFrame,
    name: str,
    source: str,
    *,
    task: Task = "rank",
    repeats: bool,
    logged: Literal["impressions", "positives"],
) -> Dataset:
    """A dataset from events and the items that have text.

    `received_at` defaults to `at`. An item that occurs in events without a row, or whose title is missing, becomes
    "(no text)".

    Raises:
        SchemaError: a column does not fit the contract.
        EmptyWindow: nothing was kept.
    """
    if events.is_empty():
        raise EmptyWindow(f"{source}: no row could be kept, it holds none; check that this is the right file")
    if "received_at" not in events.columns:
        events = events.with_columns(received_at="at")
    events = conform(events, EVENT_COLUMNS, EVENT_REQUIRED, source).sort("at", "event_id")
    unseen = events.select("item_id").unique().join(catalogue.select("item_id"), on="item_id", how="anti")
    items = pl.concat([catalogue, unseen], how="diagonal").with_columns(pl.col("title").fill_null(NO_TEXT))
    items = conform(items.sort("item_id"), CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, source)
    kinds = sorted(events["kind"].unique())
    return Dataset(events, items, DatasetMeta(name, task, repeats, logged, kinds, source))
