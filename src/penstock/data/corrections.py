"""Corrections of what is in quarantine: values mapped to others, or rows from a corrected file.

The correction is made in the journal, in the transaction that makes the rows pending again, and what comes out of it
passes the journal's door like any event. The entry in quarantine keeps the row as it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.data.admission import NotAdmitted
from penstock.data.foreign import read_foreign
from penstock.data.journal import Journal, events_frame
from penstock.data.quarantine import Note, Quarantined, held_entries, release, released_by
from penstock.data.state import State
from penstock.data.state import events as events_table
from penstock.data.tables import conform
from penstock.errors import DataError, SchemaError
from penstock.records import AT, EVENT_COLUMNS
from penstock.settings import DataSettings

FIXED = ("event_id", "received_at")
"""What tells an event apart and when it came: no correction touches them."""
ANY = "*"
Correction = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class ValueMap:
    """In `field`, `old` becomes `new`; `old` "*": every value; `new` "": none."""

    field: str
    old: str
    new: str


@dataclass(frozen=True)
class Corrected:
    """What a correction did: entries settled, events changed, events pending again."""

    entries: int
    changed: int
    released: int


def mapping(maps: Sequence[ValueMap]) -> Correction:
    """A correction that replaces values.

    Raises:
        DataError: a field that there is not or may not change, or a value of another type.
    """
    for one in maps:
        if one.field not in EVENT_COLUMNS or one.field in FIXED:
            allowed = ", ".join(name for name in EVENT_COLUMNS if name not in FIXED)
            raise DataError(f"field {one.field!r} cannot be mapped, expected one of {allowed}; correct the mapping")

    def correct(events: pl.DataFrame) -> pl.DataFrame:
        for one in maps:
            column, dtype = pl.col(one.field), EVENT_COLUMNS[one.field]
            old = pl.lit(True) if one.old == ANY else column.eq_missing(_value(one.old, dtype, one.field))
            new = pl.when(old).then(_value(one.new, dtype, one.field)).otherwise(column)
            events = events.with_columns(new.alias(one.field))
        return events

    return correct


def read_corrected(path: Path) -> pl.DataFrame:
    """Corrected rows from Parquet, CSV or JSON lines, times as ISO 8601 where the format has none.

    Raises:
        SchemaError: another ending, or not whole.
    """
    plain = {name: pl.String() if dtype == AT else dtype for name, dtype in EVENT_COLUMNS.items()}
    try:
        with path.open("rb") as file:
            if path.suffix == ".parquet":
                return read_foreign(file.read(), str(path))
            if path.suffix == ".csv":
                table = pl.read_csv(file, schema_overrides=plain)
            elif path.suffix in (".jsonl", ".ndjson"):
                table = pl.read_ndjson(file, schema_overrides=plain)
            else:
                raise SchemaError(f"{path} ends in {path.suffix or 'nothing'}, expected .parquet, .csv or .jsonl")
        times = [name for name in table.columns if EVENT_COLUMNS.get(name) == AT]
        return table.with_columns(pl.col(times).str.to_datetime(time_unit="us", time_zone="UTC"))
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{path} cannot be read as corrected rows: {error}; correct the file") from error


def from_table(table: pl.DataFrame, where: str) -> Correction:
    """A correction that takes whole values from a table with `event_id` and the columns to be replaced.

    Raises:
        SchemaError: no event_id, an event twice, a column that is none of an event's or may not change, or its type.
        DataError: the table holds an event that is not among those to be corrected.
    """
    columns = [name for name in table.columns if name not in FIXED]
    unknown = [name for name in columns if name not in EVENT_COLUMNS]
    if "event_id" not in table.columns or unknown or not columns:
        raise SchemaError(
            f"{where}: found columns {', '.join(table.columns) or 'none'}, expected event_id and some of "
            f"{', '.join(name for name in EVENT_COLUMNS if name not in FIXED)}"
        )
    wanted = {name: EVENT_COLUMNS[name] for name in ("event_id", *columns)}
    fixed = conform(table.select(list(wanted)), wanted, ("event_id",), where)
    twice = fixed.filter(pl.col("event_id").is_duplicated())
    if len(twice):
        raise SchemaError(f"{where}: event {twice['event_id'][0]!r} stands in {len(twice)} rows, expected one for each")

    def correct(events: pl.DataFrame) -> pl.DataFrame:
        strange = fixed.filter(~pl.col("event_id").is_in(events["event_id"].implode()))
        if len(strange):
            raise DataError(
                f"{where}: event {strange['event_id'][0]!r} ({len(strange)} such) is not among the held rows that were "
                "named; name its entry too, or leave the row out; nothing was changed"
            )
        return events.update(fixed, on="event_id", how="left", include_nulls=True, maintain_order="left")

    return correct


def correct(
    state: State, settings: DataSettings, ids: list[int], correction: Correction, note: Note | None = None
) -> Corrected:
    """Correct the events of these entries and make those that changed pending again.

    A refused snapshot comes back whole. A row's entry that the correction does not change stays held.

    Raises:
        StateError: an entry is unknown or not held.
        DataError, SchemaError: the correction changes nothing, or makes a row that is no event. Nothing is changed
            in any of these cases.
    """
    journal = Journal(state, settings)
    with state.write() as conn:
        entries = held_entries(conn, ids)
        before = _events_of(conn, entries)
        after = correction(before).select(list(EVENT_COLUMNS))
        changed = after.filter(_differs(before, after))
        if changed.is_empty():
            raise DataError(
                f"the correction changes none of {len(before)} events in {len(entries)} entries; see what they hold "
                "with `penstock quarantine show`"
            )
        for row in changed.to_dicts():
            _rewrite(conn, journal, row)
        ids_changed = set(changed["event_id"])
        settled = [entry for entry in entries if entry.event is None or entry.event_id in ids_changed]
        released = sum(release(conn, entry) for entry in settled)
        done = Corrected(len(settled), len(changed), released)
        if note is not None:
            note(conn, settled, {"changed": done.changed, "released": released})
    return done


def _events_of(conn: sa.Connection, entries: list[Quarantined]) -> pl.DataFrame:
    columns = [events_table.c[name] for name in EVENT_COLUMNS]
    frames = [events_frame(conn.execute(sa.select(*columns).where(released_by(entry)))) for entry in entries]
    return pl.concat(frames).unique("event_id", keep="first", maintain_order=True)


def _differs(before: pl.DataFrame, after: pl.DataFrame) -> pl.Series:
    return pl.select(pl.any_horizontal(before[name].ne_missing(after[name]) for name in EVENT_COLUMNS)).to_series()


def _rewrite(conn: sa.Connection, journal: Journal, row: dict[str, Any]) -> None:
    try:
        admitted = journal.row_of(row, row["received_at"], keep_received=True)
    except NotAdmitted as error:
        raise DataError(f"event {row['event_id']!r} would become no event: {error}; nothing was changed") from error
    conn.execute(sa.update(events_table).where(events_table.c.event_id == row["event_id"]).values(**admitted))


def _value(text: str, dtype: pl.DataType, field: str) -> pl.Expr:
    if text == "":
        return pl.lit(None, dtype)
    try:
        column = pl.Series([text])
        value = column.str.to_datetime(time_unit="us", time_zone="UTC") if dtype == AT else column.cast(dtype)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{field}: {text!r} is no {dtype}; correct the mapping") from error
    return pl.lit(value[0], dtype)
