"""The state database: tables and transactions behind one SQLAlchemy URL.

One writer at a time, on SQLite by BEGIN IMMEDIATE and on Postgres by one advisory lock: sequence numbers then become
visible in their order, so a reader that tails the journal misses none. SQLite runs in WAL mode with synchronous=FULL,
so what was committed outlives a power cut; a commit costs one fsync (NORMAL was rejected: it may lose the last ones).
Times are UTC microseconds since 1970.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.errors import StateError

METADATA = sa.MetaData()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUSY_S = 60.0
WRITES = "penstock_writes"
ADVISORY_LOCK = 0x70656E73
"""Key of the Postgres lock that serialises writers."""

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite counts up by itself in INTEGER columns only."""

events = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("request_id", sa.Text),
    sa.Column("position", sa.Integer),
    sa.Column("propensity", sa.Double),
    sa.Column("query", sa.Text),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("snapshot_id", sa.Text),
    sa.Index("events_by_snapshot", "snapshot_id", "at"),
    sa.Index("events_by_user", "user_id"),
    sqlite_autoincrement=True,
)

snapshots = sa.Table(
    "snapshots",
    METADATA,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("snapshot_id", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("window_end", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.CheckConstraint("status IN ('open', 'closed', 'quarantined', 'learned')", name="snapshots_status"),
    sqlite_autoincrement=True,
)

quarantine = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("id", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("snapshot_id", sa.Text, sa.ForeignKey("snapshots.snapshot_id"), nullable=False, index=True),
    sa.Column("event_id", sa.Text),
    sa.Column("event", sa.Text),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.CheckConstraint("status IN ('held', 'replayed', 'waived')", name="quarantine_status"),
    sqlite_autoincrement=True,
)
"""`event` is null where the row stands for a whole snapshot."""

rounds = sa.Table(
    "rounds",
    METADATA,
    sa.Column("round_id", sa.Text, primary_key=True),
    sa.Column("snapshot_id", sa.Text, sa.ForeignKey("snapshots.snapshot_id"), nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("bundle_digest", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.CheckConstraint("status IN ('running', 'done')", name="rounds_status"),
)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)
"""A released lease stays as a row without a holder, so that its token never comes again."""


class State:
    """Transactions on the state database; safe to share between threads, not across a fork."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @property
    def place(self) -> str:
        """The URL without its password, for messages."""
        return self.engine.url.render_as_string(hide_password=True)

    def ensure(self) -> None:
        """Create the tables of every module imported so far that are not there yet.

        Raises:
            StateError: the database cannot be written or is none.
        """
        with self.write() as conn:
            METADATA.create_all(conn)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """The one writing transaction: committed at the end, rolled back when anything is raised.

        Raises:
            StateError: another writer held it for a minute, or the database is full, read-only or damaged.
        """
        with self._translated(), self.engine.connect() as conn:
            marked = conn.execution_options(**{WRITES: True})
            with marked.begin():
                if self.engine.dialect.name == "postgresql":
                    marked.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                yield marked

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the database; nothing done in it stays.

        Raises:
            StateError: the database cannot be read.
        """
        with self._translated(), self.engine.connect() as conn:
            yield conn

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError):
            raise
        except (sa.exc.DatabaseError, sa.exc.TimeoutError) as error:
            cause = getattr(error, "orig", None) or error
            raise StateError(
                f"state database {self.place}: {cause}; expected a database that this user may read and write, with "
                "no writer longer than a minute; see that the disk is not full, then run `penstock doctor`"
            ) from error


def open_state(url: str) -> State:
    """Open the state database, creating its folder and tables where they are not there.

    Args:
        url: an SQLAlchemy URL; SQLite needs a file.

    Raises:
        StateError: not a URL, a database in memory, a folder that cannot be made, a file that is no database.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StateError(f"state.url is {url!r}, expected an SQLAlchemy URL as sqlite:///var/state.db") from error
    state = State(_sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _server_engine(parsed))
    state.ensure()
    return state


def to_micros(moment: datetime) -> int:
    """UTC microseconds since 1970.

    Raises:
        StateError: a time without a zone.
    """
    if moment.tzinfo is None:
        raise StateError(f"time {moment.isoformat()} has no zone, expected UTC; pass datetime.now(UTC)")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The UTC time of `value` microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise StateError("state.url names an SQLite database in memory, which no other process can see; name a file")
    path = Path(url.database).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{path.parent} cannot be made ({error.strerror}); set state.url to a file in a folder this user may write"
        ) from error
    engine = sa.create_engine(
        url.set(database=str(path)), connect_args={"timeout": BUSY_S}, pool_size=8, max_overflow=32, pool_timeout=BUSY_S
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _server_engine(url: sa.URL) -> sa.Engine:
    try:
        return sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.NoSuchModuleError, ImportError) as error:
        raise StateError(f"state.url needs a database driver that is not installed: {error}; install it") from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver, which begins them too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
    _enter_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _enter_wal(cursor: sqlite3.Cursor) -> None:
    """Two processes that open a new file at once collide here, and the busy timeout does not cover it."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(conn: sa.Connection) -> None:
    conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(WRITES) else "BEGIN")
