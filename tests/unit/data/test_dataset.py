"""A dataset folder reads back as written, and every way of being broken is named."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from penstock.data.dataset import Dataset, DatasetMeta, check_text, read_dataset, read_table, write_dataset
from penstock.errors import EmptyWindow, SchemaError
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS, EVENT_REQUIRED

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def dataset() -> Dataset:
    events = pl.DataFrame(
        {
            "event_id": ["b", "a"],
            "user_id": ["u", "u"],
            "item_id": ["i", "j"],
            "kind": ["click", "rating"],
            "at": [NOON, NOON],
            "value": [None, 4.0],
            "received_at": [NOON, NOON],
        }
    )
    catalogue = pl.DataFrame({"item_id": ["i", "j"], "title": ["Tin kettle", "Café blend"]})
    return Dataset(
        events, catalogue, DatasetMeta("toy", "rank", True, "positives", ["click", "rating"], "made by hand")
    )


def test_reads_back_what_was_written(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path / "d")
    read = read_dataset(tmp_path / "d")
    assert read.meta == dataset.meta
    assert read.events.schema == EVENT_COLUMNS
    assert read.catalogue.schema == CATALOGUE_COLUMNS
    assert read.events["event_id"].to_list() == ["a", "b"], "sorted by time, then id"
    assert read.events["value"].to_list() == [4.0, None]
    assert read.catalogue["title"].to_list() == ["Tin kettle", "Café blend"]


def test_writing_twice_gives_the_same_bytes_and_leaves_no_part(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_dataset(dataset, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"events.parquet", "catalogue.parquet", "dataset.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit("click").alias("event_id"), r"event_id, row 0 is 'click', expected each id once \(2 such rows\)"),
        (pl.lit("ghost").alias("item_id"), r"item_id, row 0 is 'ghost', expected an item of catalogue.parquet"),
        (pl.lit("stare").alias("kind"), r"kind, row 0 is 'stare', expected one of click, rating"),
        (pl.lit(float("nan")).alias("value"), "value, row 0 is nan, expected a finite number"),
        (pl.lit(None, dtype=pl.String).alias("user_id"), "user_id is null in 2 rows, first row 0"),
        (pl.lit(3).alias("user_id"), "user_id is Int32, expected String"),
        (pl.col("at").dt.replace_time_zone(None), "at is Datetime.*give the time a zone"),
    ],
)
def test_a_broken_column_is_named(dataset: Dataset, tmp_path: Path, change: pl.Expr, message: str) -> None:
    broken = replace(dataset, events=dataset.events.with_columns(change))
    with pytest.raises(SchemaError, match=message):
        write_dataset(broken, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    write_dataset(dataset, tmp_path / "d")
    broken.events.write_parquet(tmp_path / "d" / "events.parquet")
    with pytest.raises(SchemaError, match=message):
        read_dataset(tmp_path / "d")


def test_no_events_is_an_empty_window(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EmptyWindow, match="holds no events"):
        write_dataset(replace(dataset, events=dataset.events.clear()), tmp_path)


def test_a_missing_column_names_what_was_found(dataset: Dataset, tmp_path: Path) -> None:
    dataset.events.drop("kind").write_parquet(tmp_path / "events.parquet")
    with pytest.raises(SchemaError, match=r"events.parquet: column kind is missing, found event_id, user_id"):
        read_table(tmp_path / "events.parquet", EVENT_COLUMNS, EVENT_REQUIRED)


def test_a_truncated_file_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path)
    path = tmp_path / "events.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SchemaError, match="no whole Parquet file"):
        read_dataset(tmp_path)


def test_an_edited_file_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path)
    read_dataset(tmp_path).events.with_columns(pl.lit(5.0).alias("value")).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(SchemaError, match=r"events.parquet has sha256 .* it was edited or a write was cut short"):
        read_dataset(tmp_path)


def test_a_folder_without_description_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"dataset.json cannot be read.*penstock import"):
        read_dataset(tmp_path)


def test_an_unknown_key_in_the_description_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path)
    tree = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(tree | {"colour": "red"}))
    with pytest.raises(SchemaError, match="colour"):
        read_dataset(tmp_path)


def test_types_that_only_widen_are_taken(dataset: Dataset, tmp_path: Path) -> None:
    wide = dataset.events.with_columns(
        pl.col("at").cast(pl.Datetime("ms", "UTC")), position=pl.Series([0, 1], dtype=pl.Int64), value=pl.lit(3)
    )
    wide.write_parquet(tmp_path / "events.parquet")
    table = read_table(tmp_path / "events.parquet", EVENT_COLUMNS, EVENT_REQUIRED)
    assert table.schema == EVENT_COLUMNS
    assert table["at"].to_list() == [NOON, NOON]
    assert table["value"].to_list() == [3.0, 3.0]


def test_a_position_beyond_32_bits_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    dataset.events.with_columns(position=pl.lit(2**40)).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(SchemaError, match=r"position .* does not fit Int32"):
        read_table(tmp_path / "events.parquet", EVENT_COLUMNS, EVENT_REQUIRED)


def test_long_text_and_nul_are_refused() -> None:
    frame = pl.DataFrame({"title": ["short", "x" * 11, None]})
    with pytest.raises(SchemaError, match="title, row 1 holds 11 characters, at most 10"):
        check_text(frame, ("title",), 10, "here")
    check_text(frame, ("title",), 11, "here")
    with pytest.raises(SchemaError, match="row 0 holds a NUL"):
        check_text(pl.DataFrame({"title": ["a\0b"]}), ("title",), 10, "here")
