"""Labelled texts for `task: classify`: BANKING77, the gold-news headlines, or any CSV/TSV with --map.

The catalogue holds the labels, each event one text (data/dataset.py tells the convention). Texts without a time get
a made-up order: shuffled with seed 7, one minute apart from 2020-01-01; dataset.json says so in `source`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.importers.assembly import assemble
from penstock.data.importers.files import find_file, need_columns, read_csv
from penstock.data.importers.reconciliation import Reconciliation, sift
from penstock.data.importers.times import read_times
from penstock.errors import SchemaError
from penstock.records import AT

ORDER_SEED = 7
START_US = 1_577_836_800_000_000  # 2020-01-01 UTC
MINUTE_US = 60_000_000
FIELDS = {"text": "query", "query": "query", "label": "item_id", "item_id": "item_id", "at": "at"}
BANKING77 = {"text": "query", "category": "item_id"}
GOLD = {"News": "query", "Price Sentiment": "item_id", "Dates": "dates", "URL": "url"}


def import_labels(source: Path, mapping: Mapping[str, str]) -> tuple[Dataset, Reconciliation]:
    """Read one file of texts and labels; of a folder, its train.csv or gold-dataset-sinha-khandait.csv.

    Args:
        source: file or folder.
        mapping: column → text, label or at; empty for the two known sets.

    Raises:
        SchemaError: no such file, columns or fields that do not fit.
        EmptyWindow: no text could be kept.
    """
    path = find_file(source, ("train.csv", "gold-dataset-sinha-khandait.csv"), "labelled texts")
    table = read_csv(path)
    name, names = _known_set(table, mapping, path)
    rows = table.select("_row", **{field: pl.col(column) for column, field in names.items()})
    timed = "dates" in rows.columns or "at" in rows.columns
    rows = _gold_times(rows) if "dates" in rows.columns else rows
    rows = rows.with_columns(at=read_times(rows["at"])) if "at" in rows.columns else _made_up_times(rows)
    kept, rejected = sift(
        rows,
        {
            "no text": pl.col("query").is_null() | (pl.col("query").str.strip_chars() == ""),
            "no label": pl.col("item_id").is_null() | (pl.col("item_id").str.strip_chars() == ""),
            "time cannot be read": pl.col("at").is_null(),
        },
    )
    events = kept.select(
        "item_id",
        "query",
        "at",
        event_id=pl.lit(f"{name}-") + pl.col("_row").cast(pl.String).str.zfill(7),
        user_id=pl.lit("-"),
        kind=pl.lit("label"),
    )
    labels = events.select("item_id").unique().with_columns(title=pl.col("item_id").str.replace_all("_", " "))
    said = path.name if timed else f"{path.name}; order and times made up: shuffled with seed {ORDER_SEED}, 1 min apart"
    dataset = assemble(events, labels, name, said, task="classify", repeats=True, logged="positives")
    return dataset, Reconciliation(len(rows), len(kept), rejected)


def _known_set(table: pl.DataFrame, mapping: Mapping[str, str], path: Path) -> tuple[str, dict[str, str]]:
    if mapping:
        need_columns(table, tuple(mapping), path)
        unknown = [field for field in mapping.values() if field not in FIELDS]
        names = {column: FIELDS[field] for column, field in mapping.items() if field in FIELDS}
        if unknown or len(set(names.values())) < len(names) or not {"query", "item_id"} <= set(names.values()):
            raise SchemaError(
                f"--map {' '.join(f'{column}={field}' for column, field in mapping.items())} does not fit labelled "
                "texts: expected one column for text, one for label and at the most one for at"
            )
        return path.stem.split(".")[0], names
    for name, names in (("banking77", BANKING77), ("gold-news", GOLD)):
        if set(names) <= set(table.columns):
            return name, names
    raise SchemaError(
        f"{path}: columns {', '.join(table.columns[1:])} are neither BANKING77's (text, category) nor the gold news's "
        "(News, Price Sentiment, Dates, URL); say which is which with --map column=text --map column=label"
    )


def _gold_times(rows: pl.DataFrame) -> pl.DataFrame:
    # DD-MM-YYYY, D/M/YYYY (day first), and years with broken digits, for which the URL's own date stands in.
    day_first = [
        pl.col("dates").str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
        for form in ("%d-%m-%Y", "%d/%m/%Y")
    ]
    in_url = pl.col("url").str.extract(r"(\d{4}-\d{2}-\d{2})/?$")
    return rows.with_columns(
        at=pl.coalesce(*day_first, in_url.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us", time_zone="UTC"))
    )


def _made_up_times(rows: pl.DataFrame) -> pl.DataFrame:
    turn = np.empty(len(rows), dtype=np.int64)
    turn[np.random.default_rng(ORDER_SEED).permutation(len(rows))] = np.arange(len(rows))
    return rows.with_columns(at=pl.Series(START_US + turn * MINUTE_US).cast(AT))
