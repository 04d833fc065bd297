"""The journal: events are durably accepted here before anything else happens to them.

`append` returns after the commit, so what it calls accepted outlives a crash; an event_id is taken once, whatever
comes with it later. What cannot be an event at all (no id, an unknown kind, a NaN, a time in the future) is refused
here, with its reason to the sender; what can be one but may not be learned from (an unknown item, a propensity of 2)
is accepted, and goes to quarantine when its snapshot is validated.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.data.admission import Admission, NotAdmitted, need_columns
from penstock.data.pseudonyms import user_names
from penstock.data.state import State
from penstock.data.state import events as table
from penstock.data.tables import conform
from penstock.records import AT, EVENT_COLUMNS, EVENT_REQUIRED
from penstock.settings import DataSettings

NUMBERED: dict[str, pl.DataType] = {"seq": pl.Int64(), **EVENT_COLUMNS}
NOTHING = {True: pl.DataFrame(schema=NUMBERED), False: pl.DataFrame(schema=EVENT_COLUMNS)}
FEW = 16
"""Events that are quicker made into a table row by row: half of the time for one, eight times as long for thousands."""
CHUNK = 20_000
"""Rows of one INSERT."""
COUNTED = {"preserve_rowcount": True}
"""psycopg forgets how many rows went in once its cursor is closed, which SQLAlchemy does first."""

LAST = sa.select(sa.func.coalesce(sa.func.max(table.c.seq), 0))
NEWEST_USER = sa.select(table.c.user_id).order_by(table.c.seq.desc()).limit(1)
TAKEN = sa.select(sa.func.count()).select_from(table).where(table.c.seq > sa.bindparam("last"))
SINCE = (
    sa.select(table.c.seq, *(table.c[name] for name in EVENT_COLUMNS))
    .where(table.c.seq > sa.bindparam("since"))
    .order_by(table.c.seq)
    .limit(sa.bindparam("most"))
)
"""Made once: SQLAlchemy takes longer over making a statement than SQLite over answering it."""


@dataclass(frozen=True)
class Accepted:
    """What became of a batch: every event is accepted, a duplicate, or in `rejected` as (index, event_id, reason)."""

    accepted: int
    duplicates: int
    rejected: list[tuple[int, str | None, str]]


class Journal:
    """Accepts events, and hands them on in the order of their acceptance.

    `name_of`: turns a user's id into the name that is stored, a pseudonym where data.hash_users is set
    (`hashes_users`): then nothing that a source brings may be kept with an id in it.

    Raises:
        SettingsError: data.hash_users is not what the events were taken under; see `pseudonyms.user_names`.
    """

    def __init__(self, state: State, settings: DataSettings) -> None:
        self.state = state
        self._admission = Admission(settings.gains, settings.max_text_chars)
        self.name_of, self.hashes_users = user_names(settings, self._newest_user), settings.hash_users
        self._skew = timedelta(minutes=settings.clock_skew_minutes)

    def append(self, events: Sequence[Mapping[str, Any]] | pl.DataFrame, now: datetime) -> Accepted:
        """Accept a batch; durable when it returns, safe to send again.

        Args:
            events: mappings with the keys of records.EVENT_COLUMNS, or a table with those columns. `at` has a zone.
                `received_at` is `now`; only a table may bring an earlier one, as a log that is read in later does.
            now: the moment of acceptance.

        Raises:
            SchemaError: a table lacks a required column, or one has another type; nothing is accepted then.
            StateError: the database cannot be written; nothing is accepted then.
        """
        keep_received = isinstance(events, pl.DataFrame)
        rows: list[dict[str, Any]] = []
        rejected: list[tuple[int, str | None, str]] = []
        for index, event in enumerate(_table_rows(events) if isinstance(events, pl.DataFrame) else events):
            try:
                rows.append(self.row_of(event, now, keep_received=keep_received))
            except NotAdmitted as refusal:
                rejected.append((index, refusal.event_id, str(refusal)))
        accepted = 0
        if rows:
            with self.state.write() as conn:
                accepted = self.insert(conn, rows)
        return Accepted(accepted, len(rows) - accepted, rejected)

    def _newest_user(self) -> str | None:
        with self.state.read() as conn:
            found = sa.inspect(conn).has_table(table.name)
            return conn.execute(NEWEST_USER).scalar_one_or_none() if found else None

    def pending(self) -> int:
        """Events that no snapshot holds yet."""
        query = sa.select(sa.func.count()).select_from(table).where(table.c.snapshot_id.is_(None))
        with self.state.read() as conn:
            return int(conn.execute(query).scalar_one())

    def read(self, since_seq: int, limit: int) -> pl.DataFrame:
        """At most `limit` events accepted after `since_seq`, oldest first: `seq` and records.EVENT_COLUMNS."""
        with self.state.read() as conn:
            return events_frame(conn.execute(SINCE, {"since": since_seq, "most": limit}), with_seq=True)

    def row_of(
        self, event: Mapping[str, Any], now: datetime, sent_at: datetime | None = None, keep_received: bool = False
    ) -> dict[str, Any]:
        """The event as a row for `insert`: the one way in, whatever brought it.

        Args:
            sent_at: when a broker took it, where one did: it may not have happened after that either.

        Raises:
            NotAdmitted: it cannot be one, and why.
        """
        latest = now if sent_at is None else min(now, sent_at)
        row = self._admission.admit(event, now, latest + self._skew, keep_received)
        return row | {"user_id": self.name_of(row["user_id"])}

    def insert(self, conn: sa.Connection, rows: list[dict[str, Any]]) -> int:
        """Accept admitted rows within a transaction; returns how many are new."""
        statement = _insert_new(conn.dialect.name)
        if len(rows) == 1:  # what a service is sent: every driver counts one row, not every one several
            return conn.execute(statement, rows, execution_options=COUNTED).rowcount
        last = conn.execute(LAST).scalar_one()
        for start in range(0, len(rows), CHUNK):
            conn.execute(statement, rows[start : start + CHUNK])
        return int(conn.execute(TAKEN, {"last": last}).scalar_one())


def events_frame(rows: Iterable[sa.Row[Any]], with_seq: bool = False) -> pl.DataFrame:
    """Rows of the events table as records.EVENT_COLUMNS, behind `seq` where asked for."""
    found = [tuple(row) for row in rows]
    if not found:
        return NOTHING[with_seq].clone()  # what whoever follows the journal meets most of the time
    schema = NUMBERED if with_seq else EVENT_COLUMNS
    if len(found) <= FEW:
        return pl.DataFrame(found, schema, orient="row")
    columns = zip(schema.items(), zip(*found, strict=True), strict=True)
    return pl.DataFrame([_column(name, dtype, values) for (name, dtype), values in columns])


def _column(name: str, dtype: pl.DataType, values: tuple[Any, ...]) -> pl.Series:
    """A column of the table; made by itself, which spares the service polars' query engine for each event."""
    return pl.Series(name, values, pl.Int64).cast(AT) if dtype == AT else pl.Series(name, values, dtype)


@cache
def _insert_new(dialect: str) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing(index_elements=["event_id"])
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table).on_conflict_do_nothing(index_elements=["event_id"])


def _table_rows(events: pl.DataFrame) -> Iterable[dict[str, Any]]:
    needed = [name for name in EVENT_REQUIRED if name != "received_at"]
    need_columns(events, tuple(needed), f"batch of {len(events)} events")
    return conform(events, EVENT_COLUMNS, (), f"batch of {len(events)} events").iter_rows(named=True)
