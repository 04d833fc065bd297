"""A log of impressions as labelled texts: the item's text in, clicked or not out."""

import polars as pl

from penstock.data.dataset import Dataset, DatasetMeta
from penstock.data.tables import conform
from penstock.errors import DataError
from penstock.records import CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, EVENT_COLUMNS, EVENT_REQUIRED

CLICKED = "clicked"
NOT_CLICKED = "not-clicked"


def click_labels(dataset: Dataset, click: str = "click") -> Dataset:
    """Turn each impression into one label event for `task: classify`.

    Args:
        dataset: impressions with request_id, and what followed them.
        click: the kind that makes an impression "clicked", under the same request and item.

    Returns:
        One event per impression: kind "label", query: title and body, item_id: "clicked" or "not-clicked",
        user_id "-"; event_id, at and received_at of the impression.

    Raises:
        DataError: there are no impressions with a request_id.
    """
    shown = dataset.events.filter((pl.col("kind") == "impression") & pl.col("request_id").is_not_null())
    if shown.is_empty():
        raise DataError(
            f"dataset {dataset.meta.name} logs no impressions (kinds {', '.join(dataset.meta.kinds)}), so nothing is "
            "known not to be clicked; import a log of impressions"
        )
    clicked = dataset.events.filter(kind=click).select("request_id", "item_id", hit=pl.lit(True)).unique()
    text = pl.concat_str("title", "body", separator=". ", ignore_nulls=True)
    rows = shown.join(clicked, on=["request_id", "item_id"], how="left", maintain_order="left").join(
        dataset.catalogue.select("item_id", text=text), on="item_id", how="left", maintain_order="left"
    )
    events = rows.select(
        "event_id",
        "at",
        "received_at",
        user_id=pl.lit("-"),
        item_id=pl.when("hit").then(pl.lit(CLICKED)).otherwise(pl.lit(NOT_CLICKED)),
        kind=pl.lit("label"),
        query="text",
    )
    labels = pl.DataFrame({"item_id": [CLICKED, NOT_CLICKED], "title": ["clicked", "not clicked"]})
    return Dataset(
        conform(events, EVENT_COLUMNS, EVENT_REQUIRED, "click labels"),
        conform(labels, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, "click labels"),
        DatasetMeta(f"{dataset.meta.name}-clicks", "classify", True, "positives", ["label"], dataset.meta.source),
    )
