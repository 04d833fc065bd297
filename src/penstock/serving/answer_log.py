"""What was answered, kept so that it can be explained and that a new version's clicks can be counted.

A request puts its answer into a queue in memory, as bytes, which costs microseconds; a thread writes the queue to the
state database every `service.answers_flush_s`, marks the answers that were followed by a click, and drops old ones. So
a crash loses the answers of the last moment (not the events: those are the journal's), and while the database is away
the newest `QUEUE` answers wait. Nothing of it can fail a request.
"""

import logging
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from penstock.data.state import METADATA, SEQUENCE, State, events, from_micros, to_micros
from penstock.settings import Settings

QUEUE = 20_000
BATCH = 200
"""Answers of one statement, of which SQLite takes 5,461. Row by row it would wait for the interpreter a hundred times,
and be in the way of answers for as long."""
READ = 5_000
POSITION = "clicks"
LAG_FLUSHES = 3
"""A click is matched this many flushes after it came in: its answer may still be in another replica's queue."""

log = logging.getLogger(__name__)

answers = sa.Table(
    "answers",
    METADATA,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("clicked_at", sa.BigInteger),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("answers_by_version", "version", "at"),
    sqlite_autoincrement=True,
)
"""`clicked_at`: when the first positive event that names the request was received; `body`: JSON, see Answered."""

COLUMNS = ("request_id", "at", "version", "user_id", "failed", "body")
Row = tuple[str, int, str, str | None, bool, bytes]
"""An answer as it waits and as it is written: COLUMNS."""

positions = sa.Table(
    "positions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""How far each reader of the journal has come."""

LAST = sa.select(answers.c.seq).order_by(answers.c.seq.desc()).limit(1)
_oldest = sa.select(answers.c.seq, answers.c.at).order_by(answers.c.seq).limit(sa.bindparam("some")).subquery()
OLDEST_TO_GO = sa.select(_oldest.c.seq).where(
    (_oldest.c.at < sa.bindparam("before")) | (_oldest.c.seq <= sa.bindparam("until"))
)
READ_TO = sa.select(positions.c.seq).where(positions.c.name == POSITION)
EVENTS_SINCE = (
    sa.select(events.c.seq, events.c.request_id, events.c.kind, events.c.value, events.c.received_at)
    .where(events.c.seq > sa.bindparam("since"))
    .order_by(events.c.seq)
    .limit(READ)
)
FIRST_CLICK = (
    sa.update(answers)
    .where(answers.c.clicked_at.is_(None) & (answers.c.request_id == sa.bindparam("id")))
    .values(clicked_at=sa.bindparam("when"))
)
FURTHER = (
    sa.update(positions)
    .where((positions.c.name == POSITION) & (positions.c.seq < sa.bindparam("last")))
    .values(seq=sa.bindparam("last"))
)
"""Made once: SQLAlchemy takes longer over making a statement than SQLite over answering it."""


@dataclass(frozen=True)
class Answered:
    """One answer as it was given.

    `body`: `items` ([item_id, score, source, propensity]), `past` (the user's last events: [item_id, kind, seconds
    since 1970]), `k`, `query`, `filters`, `given` (whether the past came with the request), `digest`, and `loaded_seq`
    and `seq`: the journal entries up to which the version had caught up when it was loaded, and when it answered.
    """

    request_id: str
    at: datetime
    version: str
    user_id: str | None
    failed: bool = False
    clicked_at: datetime | None = None
    body: dict[str, Any] = field(default_factory=dict)


class AnswerLog:
    """See the module. `put` from any thread; the rest from one.

    Args:
        state: None keeps nothing, as in tests of the service alone.
    """

    def __init__(self, state: State | None, settings: Settings) -> None:
        self.state, self._service = state, settings.service
        self._positive = [kind for kind, gain in settings.data.gains.items() if gain > 0]
        self._rating_min = settings.data.positive_rating_min
        self._queue: deque[Row] = deque(maxlen=QUEUE)
        self._batch: list[Row] = []
        self.enabled = state is not None and self._service.answers_kept_h > 0
        self.dropped = 0
        if self.enabled and state is not None:
            state.ensure()
            with state.write() as conn:
                if _position(conn) is None:
                    last = conn.execute(sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0))).scalar_one()
                    conn.execute(sa.insert(positions).values(name=POSITION, seq=last))

    def put(self, answered: Answered) -> None:
        """Take one answer; the oldest waiting one gives way where the queue is full, and is counted."""
        if not self.enabled:
            return
        row = _row(answered)
        self.dropped += len(self._queue) == QUEUE
        self._queue.append(row)

    def work(self, now: datetime) -> None:
        """Write what waits, mark what was clicked.

        Raises:
            StateError: the database cannot be written; what waited still waits.
        """
        if self.enabled:
            self.flush()
            self.mark_clicked(now)

    def flush(self) -> int:
        """Write the answers that wait; how many."""
        assert self.state is not None
        written = 0
        while True:
            while self._queue and len(self._batch) < BATCH:
                self._batch.append(self._queue.popleft())
            if not self._batch:
                return written
            values = tuple(value for row in self._batch for value in row)
            with self.state.write() as conn:
                conn.exec_driver_sql(_insert_new(conn.dialect.paramstyle, len(self._batch)), values)
            written += len(self._batch)
            self._batch = []

    def mark_clicked(self, now: datetime) -> int:
        """Note which answers were followed by a positive event that names them; how many events were looked at."""
        assert self.state is not None
        until = now - timedelta(seconds=LAG_FLUSHES * self._service.answers_flush_s)
        with self.state.read() as conn:
            found = self._new_events(conn, until)
        if not found:
            return 0
        marks = [{"id": row.request_id, "when": row.received_at} for row in found if self._is_positive(row)]
        with self.state.write() as conn:
            if marks:
                conn.execute(FIRST_CLICK, marks)
            conn.execute(FURTHER, {"last": found[-1].seq})
        return len(found)

    def drop_old(self, now: datetime) -> int:
        """Delete a batch of what is older than `service.answers_kept_h` or beyond `service.answers_max_rows`.

        Nothing is looked through where the oldest answer may stay: this runs beside requests.
        """
        if not self.enabled or self.state is None:
            return 0
        before = to_micros(now - timedelta(hours=self._service.answers_kept_h))
        with self.state.read() as conn:
            last = conn.execute(LAST).scalar_one_or_none()
            if last is None:
                return 0
            gone = {"before": before, "until": last - self._service.answers_max_rows}
            if conn.execute(OLDEST_TO_GO, gone | {"some": 1}).scalar_one_or_none() is None:
                return 0
        with self.state.write() as conn:
            seqs = conn.execute(OLDEST_TO_GO, gone | {"some": READ}).scalars().all()
            conn.execute(sa.delete(answers).where(answers.c.seq.in_(seqs)))
        return len(seqs)

    def _new_events(self, conn: sa.Connection, until: datetime) -> list[Any]:
        found = []
        for row in conn.execute(EVENTS_SINCE, {"since": _position(conn) or 0}):
            if row.received_at > to_micros(until):
                break
            found.append(row)
        return found

    def _is_positive(self, row: Any) -> bool:
        if row.request_id is None or row.kind not in self._positive:
            return False
        return row.kind != "rating" or (row.value is not None and row.value >= self._rating_min)


def find_answer(state: State, request_id: str) -> Answered | None:
    """One answer by its request id, None where it was never kept, is gone, or is not written yet."""
    state.ensure()
    with state.read() as conn:
        row = conn.execute(sa.select(answers).where(answers.c.request_id == request_id)).one_or_none()
    if row is None:
        return None
    clicked = None if row.clicked_at is None else from_micros(row.clicked_at)
    return Answered(
        row.request_id, from_micros(row.at), row.version, row.user_id, bool(row.failed), clicked, orjson.loads(row.body)
    )


def shown_items(state: State, request_ids: Collection[str]) -> pl.DataFrame:
    """The items answered to requests: `request_id`, `item_id`, `user_id` (null where nobody was named)."""
    state.ensure()
    asked, rows = list(request_ids), []
    columns = (answers.c.request_id, answers.c.user_id, answers.c.body)
    with state.read() as conn:
        for first in range(0, len(asked), READ):
            some = answers.c.request_id.in_(asked[first : first + READ])
            for row in conn.execute(sa.select(*columns).where(some)):
                items = orjson.loads(row.body).get("items", [])
                rows += [(row.request_id, item, row.user_id) for item, *_ in items]
    schema = {"request_id": pl.String, "item_id": pl.String, "user_id": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def forget_user(conn: sa.Connection, user_id: str) -> int:
    """Delete every answer to a user, in the caller's transaction; how many."""
    return conn.execute(sa.delete(answers).where(answers.c.user_id == user_id)).rowcount


def _insert_new(paramstyle: str, rows: int) -> str:
    """An answer that was written although its commit seemed to fail is not written twice.

    In the driver's own words: SQLAlchemy would take each value in hand.
    """
    row = ", ".join(["?" if paramstyle == "qmark" else "%s"] * len(COLUMNS))
    places = ", ".join([f"({row})"] * rows)
    return f"INSERT INTO answers ({', '.join(COLUMNS)}) VALUES {places} ON CONFLICT (request_id) DO NOTHING"


def _row(one: Answered) -> Row:
    body = orjson.dumps(one.body, option=orjson.OPT_SERIALIZE_NUMPY)
    return one.request_id, to_micros(one.at), one.version, one.user_id, one.failed, body


def _position(conn: sa.Connection) -> int | None:
    return conn.execute(READ_TO).scalar_one_or_none()
