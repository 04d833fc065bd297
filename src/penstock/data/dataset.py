"""A dataset on disk: events.parquet, catalogue.parquet and dataset.json in one folder.

Reading is strict, because everything later trusts it: a missing column, a wrong type, a truncated file, a null
where none may be, a repeated id, a NaN or an unknown item is a SchemaError that names file, column or row.
dataset.json carries the sha256 of both tables and is renamed into place last, so a folder left half-written by
a crash is recognised.

For `task: classify` the catalogue holds the labels as items (item_id: label id, title: readable label) and each
event has kind "label", query: the text, item_id: the label, user_id: "-".
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from penstock.data.tables import check_text, conform, file_sha256, read_table, replace_file, write_table
from penstock.errors import DataError, EmptyWindow, SchemaError
from penstock.records import (
    CATALOGUE_COLUMNS,
    CATALOGUE_REQUIRED,
    EVENT_COLUMNS,
    EVENT_REQUIRED,
    Task,
)

__all__ = [
    "Dataset",
    "DatasetMeta",
    "check_dataset",
    "check_text",
    "dataset_task",
    "read_dataset",
    "read_table",
    "write_dataset",
]

EVENTS_FILE = "events.parquet"
CATALOGUE_FILE = "catalogue.parquet"
META_FILE = "dataset.json"
NO_TEXT = "(no text)"
"""Title of an item that is known by its id alone."""


@dataclass(frozen=True)
class DatasetMeta:
    """What the tables mean.

    `repeats`: False when an item that the user already had is no candidate again. `logged`: "impressions" when what
    was shown is known, "positives" when only what was taken is.
    """

    name: str
    task: Task
    repeats: bool
    logged: Literal["impressions", "positives"]
    kinds: list[str]
    source: str


@dataclass(frozen=True)
class Dataset:
    """Events (records.EVENT_COLUMNS, by time and id), catalogue (records.CATALOGUE_COLUMNS) and what they mean."""

    events: pl.DataFrame
    catalogue: pl.DataFrame
    meta: DatasetMeta


def read_dataset(folder: Path, max_text_chars: int | None = None) -> Dataset:
    """Read and check a dataset folder.

    Args:
        folder: holds events.parquet, catalogue.parquet and dataset.json.
        max_text_chars: longest title, body or query allowed; None: any length.

    Raises:
        SchemaError: a file is missing, truncated, altered since it was written, or breaks the contract.
        EmptyWindow: there is no event.
    """
    meta, digests = _read_meta(folder / META_FILE)
    events = read_table(folder / EVENTS_FILE, EVENT_COLUMNS, EVENT_REQUIRED)
    catalogue = read_table(folder / CATALOGUE_FILE, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED)
    dataset = Dataset(events.sort("at", "event_id"), catalogue, meta)
    check_dataset(dataset, str(folder), max_text_chars)
    for name, expected in digests.items():
        found = file_sha256(folder / name)
        if found != expected:
            raise SchemaError(
                f"{folder / name} has sha256 {found[:12]}…, {META_FILE} says {expected[:12]}…: it was edited or a "
                "write was cut short; import or simulate the dataset again"
            )
    return dataset


def dataset_task(folder: Path) -> Task:
    """What the dataset in `folder` is for, from dataset.json alone.

    Raises:
        SchemaError: dataset.json is missing or breaks the contract.
    """
    return _read_meta(folder / META_FILE)[0].task


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a dataset folder; each file appears whole, dataset.json last.

    Raises:
        SchemaError: the dataset breaks the contract; nothing is written then.
        EmptyWindow: there is no event; nothing is written then.
        DataError: the folder cannot be written.
    """
    events = conform(dataset.events, EVENT_COLUMNS, EVENT_REQUIRED, EVENTS_FILE).sort("at", "event_id")
    catalogue = conform(dataset.catalogue, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, CATALOGUE_FILE).sort("item_id")
    check_dataset(Dataset(events, catalogue, dataset.meta), str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_table(events, folder / EVENTS_FILE)
        write_table(catalogue, folder / CATALOGUE_FILE)
        digests = {name: file_sha256(folder / name) for name in (EVENTS_FILE, CATALOGUE_FILE)}
        _write_meta(folder, dataset.meta, digests)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name a folder this user may write") from error


def replace_events(folder: Path, events: pl.DataFrame) -> None:
    """Put other events into a dataset folder, and their hash into its dataset.json where there is one.

    The hash goes first: a crash between the two leaves the earlier events, refused until this is done again.

    Raises:
        SchemaError: dataset.json breaks the contract; nothing is written then.
        DataError: the folder cannot be written.
    """
    new = folder / f".{EVENTS_FILE}.new"
    meta = _read_meta(folder / META_FILE) if (folder / META_FILE).exists() else None
    try:
        write_table(events, new)
        if meta is not None:
            _write_meta(folder, meta[0], meta[1] | {EVENTS_FILE: file_sha256(new)})
        new.replace(folder / EVENTS_FILE)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); see that this user may, and again") from error


def check_dataset(dataset: Dataset, where: str, max_text_chars: int | None = None) -> None:
    """Check what no single column can show: unique ids, known kinds and items, finite numbers, text length.

    Raises:
        SchemaError: with the first offending row.
        EmptyWindow: there is no event.
    """
    events, catalogue = dataset.events, dataset.catalogue
    if events.is_empty():
        raise EmptyWindow(f"{where}/{EVENTS_FILE} holds no events; at least one is needed")
    numbered = events.with_row_index("row")
    kinds, items = dataset.meta.kinds, catalogue["item_id"].implode()
    _refuse(
        catalogue.with_row_index("row"),
        pl.col("item_id").is_duplicated(),
        "item_id",
        "each id once",
        f"{where}/{CATALOGUE_FILE}",
    )
    rules: list[tuple[pl.Expr, str, str]] = [
        (pl.col("event_id").is_duplicated(), "event_id", "each id once"),
        (~pl.col("kind").is_in(kinds), "kind", f"one of {', '.join(kinds)} ({META_FILE})"),
        (~pl.col("item_id").is_in(items), "item_id", f"an item of {CATALOGUE_FILE}"),
        (~pl.col("value").is_finite(), "value", "a finite number or null"),
        (~pl.col("propensity").is_finite(), "propensity", "a finite number or null"),
    ]
    for broken, column, expected in rules:
        _refuse(numbered, broken, column, expected, f"{where}/{EVENTS_FILE}")
    if max_text_chars is not None:
        check_text(events, ("query",), max_text_chars, f"{where}/{EVENTS_FILE}")
        check_text(catalogue, ("title", "body"), max_text_chars, f"{where}/{CATALOGUE_FILE}")


def _refuse(numbered: pl.DataFrame, broken: pl.Expr, column: str, expected: str, where: str) -> None:
    rows = numbered.filter(broken)
    if len(rows):
        raise SchemaError(
            f"{where}: column {column}, row {rows['row'][0]} is {rows[column][0]!r}, expected {expected} "
            f"({len(rows)} such rows); correct the source and import again"
        )


def _read_meta(path: Path) -> tuple[DatasetMeta, dict[str, str]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemaError(
            f"{path} cannot be read ({error.strerror}); a dataset folder has one: `penstock import` or "
            "`penstock simulate` write it"
        ) from error
    except ValueError as error:
        raise SchemaError(f"{path} is not JSON: {error}; import or simulate the dataset again") from error
    if not isinstance(tree, dict):
        raise SchemaError(f"{path} holds {type(tree).__name__}, expected an object; import or simulate it again")
    digests = tree.pop("files", {})
    expected = set(DatasetMeta.__dataclass_fields__)
    if set(tree) != expected:
        raise SchemaError(f"{path} holds keys {sorted(tree)}, expected {sorted(expected)}; import it again")
    if tree["task"] not in ("rank", "classify") or tree["logged"] not in ("impressions", "positives"):
        raise SchemaError(
            f"{path}: task is {tree['task']!r} and logged is {tree['logged']!r}, expected rank or classify, and "
            "impressions or positives"
        )
    return DatasetMeta(**tree), digests


def _write_meta(folder: Path, meta: DatasetMeta, digests: dict[str, str]) -> None:
    text = json.dumps(asdict(meta) | {"files": digests}, indent=2, sort_keys=True) + "\n"
    replace_file(folder / META_FILE, lambda part: _write_text(part, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
