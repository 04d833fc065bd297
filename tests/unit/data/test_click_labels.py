"""Impressions become texts that were clicked or not."""

from datetime import UTC, datetime

import polars as pl
import pytest

from penstock.data.click_labels import click_labels
from penstock.data.dataset import Dataset, DatasetMeta
from penstock.errors import DataError

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def log(*rows: tuple[str, str, str]) -> Dataset:
    events = pl.DataFrame(rows, schema=["kind", "request_id", "item_id"], orient="row").with_columns(
        event_id=pl.format("e{}", pl.int_range(pl.len())), user_id=pl.lit("u"), at=NOON, received_at=NOON
    )
    catalogue = pl.DataFrame({"item_id": ["i", "j"], "title": ["Kettle", "Mug"], "body": ["Of tin", None]})
    return Dataset(events, catalogue, DatasetMeta("toy", "rank", True, "impressions", ["impression", "click"], "hand"))


def test_a_click_labels_only_its_own_request() -> None:
    labelled = click_labels(
        log(("impression", "r", "i"), ("impression", "r", "j"), ("click", "r", "i"), ("impression", "s", "i"))
    )
    assert labelled.events.select("event_id", "query", "item_id").rows() == [
        ("e0", "Kettle. Of tin", "clicked"),
        ("e1", "Mug", "not-clicked"),
        ("e3", "Kettle. Of tin", "not-clicked"),
    ]
    assert labelled.meta.task == "classify"
    assert set(labelled.events["user_id"]) == {"-"}


def test_positives_alone_cannot_say_what_was_not_clicked() -> None:
    with pytest.raises(DataError, match="toy logs no impressions"):
        click_labels(log(("click", "r", "i")))
