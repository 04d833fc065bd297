"""Any log as CSV, TSV, Parquet or JSON lines, with its columns mapped: --map column=field.

Fields are those of an event, and title, body, category, published_at and attributes of its item. user_id, item_id
and at are needed; without kind every row is a click, without event_id rows are numbered.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.foreign import read_foreign
from penstock.data.importers.assembly import assemble
from penstock.data.importers.files import need_columns, read_csv, read_json_lines
from penstock.data.importers.reconciliation import Reconciliation, sift
from penstock.data.importers.times import read_times
from penstock.errors import SchemaError
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS

NEEDED = ("user_id", "item_id", "at")
ITEM_FIELDS = tuple(name for name in CATALOGUE_COLUMNS if name not in ("item_id", "vector"))
FIELDS = (*EVENT_COLUMNS, *ITEM_FIELDS)
TIMES = ("at", "received_at", "published_at")
NUMBERS: dict[str, type[pl.DataType]] = {"value": pl.Float64, "propensity": pl.Float64, "position": pl.Int32}
DEFAULT_KIND = "click"


def import_table(source: Path, mapping: Mapping[str, str]) -> tuple[Dataset, Reconciliation]:
    """Read one mapped file.

    Args:
        source: .csv, .tsv (either also .gz), .parquet, .jsonl or .ndjson.
        mapping: column of the file → field.

    Raises:
        SchemaError: the file cannot be read, or the mapping names a column or field that does not exist.
        EmptyWindow: no row could be kept.
    """
    table = _read(source)
    _check(table, mapping, source)
    rows = table.select("_row", *[pl.col(column).alias(field) for column, field in mapping.items()])
    typed = rows.with_columns([_typed(rows[name]) for name in rows.columns if name != "_row"])
    unread = [name for name in (*TIMES, *NUMBERS) if name in rows.columns]
    marks = typed.with_columns(
        [(rows[name].is_not_null() & typed[name].is_null()).alias(f"{name}?") for name in unread]
    )
    rules = {f"no {name}": pl.col(name).is_null() for name in ("user_id", "item_id")}
    rules |= {f"{name} cannot be read": pl.col(f"{name}?") for name in unread}
    rules["no at"] = pl.col("at").is_null()
    rules |= {
        f"no {name}": pl.col(name).is_null() for name in ("kind", "event_id", "received_at") if name in rows.columns
    }
    if "event_id" in rows.columns:
        rules["event_id seen before"] = ~pl.col("event_id").is_first_distinct()
    kept, rejected = sift(marks, rules)
    dataset = assemble(
        _events(kept), _items(kept), source.name.split(".")[0], source.name,
        repeats=True, logged=_logged(kept),
    )  # fmt: skip
    return dataset, Reconciliation(len(rows), len(kept), rejected)


def _read(path: Path) -> pl.DataFrame:
    name = path.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt")):
        return read_csv(path)
    try:
        if name.endswith(".parquet"):
            return read_foreign(path.read_bytes(), str(path)).with_row_index("_row")
        if name.endswith((".jsonl", ".ndjson")):
            return read_json_lines(path)
    except OSError as error:
        raise SchemaError(f"{path} cannot be read ({error.strerror}); give the file's place") from error
    raise SchemaError(f"{path} ends in {path.suffix or 'nothing'}, expected .csv, .tsv, .parquet, .jsonl or .ndjson")


def _check(table: pl.DataFrame, mapping: Mapping[str, str], path: Path) -> None:
    need_columns(table.drop("_row"), tuple(mapping), path)
    fields = list(mapping.values())
    unknown = [field for field in fields if field not in FIELDS]
    if unknown:
        raise SchemaError(f"--map names field {', '.join(unknown)}, expected one of {', '.join(FIELDS)}")
    twice = sorted({field for field in fields if fields.count(field) > 1})
    missing = [field for field in NEEDED if field not in fields]
    if twice or missing:
        raise SchemaError(
            f"{path}: --map gives {'two columns for ' + twice[0] if twice else 'no column for ' + ', '.join(missing)}; "
            f"the file has {', '.join(table.columns[1:])}; give each field one column, {', '.join(NEEDED)} at least"
        )


def _typed(column: pl.Series) -> pl.Series:
    if column.name in TIMES:
        return read_times(column).alias(column.name)
    if column.name in NUMBERS:
        number = column.cast(NUMBERS[column.name], strict=False)
        finite = pl.col(column.name).is_finite() if number.dtype.is_float() else pl.lit(True)
        return number.to_frame().select(pl.when(finite).then(pl.col(column.name))).to_series()
    text = column.cast(pl.String)
    return (
        text.to_frame()
        .select(pl.when(pl.col(column.name).str.strip_chars() != "").then(pl.col(column.name)))
        .to_series()
    )


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    if "kind" not in rows.columns:
        rows = rows.with_columns(kind=pl.lit(DEFAULT_KIND))
    if "event_id" not in rows.columns:
        rows = rows.with_columns(event_id=pl.lit("row-") + pl.col("_row").cast(pl.String).str.zfill(9))
    return rows.select([name for name in EVENT_COLUMNS if name in rows.columns])


def _items(rows: pl.DataFrame) -> pl.DataFrame:
    # An item's text is the newest non-null one of each field.
    present = [name for name in ITEM_FIELDS if name in rows.columns]
    newest = [pl.col(name).drop_nulls().last() for name in present]
    items = rows.sort("at", "_row").group_by("item_id", maintain_order=True).agg(newest)
    return items if "title" in present else items.with_columns(title=pl.lit(None, dtype=pl.String))


def _logged(rows: pl.DataFrame) -> Literal["impressions", "positives"]:
    shown = "kind" in rows.columns and (rows["kind"] == "impression").any()
    return "impressions" if shown else "positives"
