"""Transactions are whole, writers take turns, and a database that cannot be used says so."""

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from penstock.data.state import State, from_micros, leases, open_state, quarantine, to_micros
from penstock.errors import StateError

FIRST = {"name": "a", "holder": "x", "token": 1, "expires_at": 0}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(f"sqlite:///{tmp_path}/deep/er/state.db")
    yield state
    state.engine.dispose()


def test_the_promised_durability_is_set(state: State) -> None:
    with state.read() as conn:
        pragmas = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 60_000}


def test_a_transaction_that_fails_leaves_nothing(state: State) -> None:
    def fails() -> None:
        with state.write() as conn:
            conn.execute(sa.insert(leases).values(FIRST))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    with state.read() as conn:
        assert conn.execute(sa.select(leases)).all() == []


def test_what_is_written_in_a_read_does_not_stay(state: State) -> None:
    with state.read() as conn:
        conn.execute(sa.insert(leases).values(FIRST))
    with state.read() as conn:
        assert conn.execute(sa.select(leases)).all() == []


def test_a_read_sees_one_moment(state: State) -> None:
    with state.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(leases)).scalar_one() == 0
        with state.write() as other:
            other.execute(sa.insert(leases).values(FIRST))
        assert conn.execute(sa.select(sa.func.count()).select_from(leases)).scalar_one() == 0


def test_writers_take_turns_from_reading_to_writing(state: State) -> None:
    """Without BEGIN IMMEDIATE two of them would read the same token and one increment would be lost."""
    with state.write() as conn:
        conn.execute(sa.insert(leases).values(FIRST | {"token": 0}))

    def work() -> None:
        for _ in range(10):
            with state.write() as conn:
                token = conn.execute(sa.select(leases.c.token)).scalar_one()
                conn.execute(sa.update(leases).values(token=token + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.read() as conn:
        assert conn.execute(sa.select(leases.c.token)).scalar_one() == 40


def _open(url: str) -> None:
    open_state(url).engine.dispose()


def test_processes_that_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    url = f"sqlite:///{tmp_path}/new/state.db"
    workers = [context.Process(target=_open, args=(url,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=300)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_a_reference_to_nothing_is_refused(state: State) -> None:
    row = {"snapshot_id": "ghost", "reasons": "[]", "created_at": 0, "status": "held"}
    with pytest.raises(sa.exc.IntegrityError), state.write() as conn:
        conn.execute(sa.insert(quarantine).values(row))


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    first = open_state(url)
    with first.write() as conn:
        conn.execute(sa.insert(leases).values(FIRST))
    first.engine.dispose()
    second = open_state(url)
    with second.read() as conn:
        assert conn.execute(sa.select(leases.c.name)).scalars().all() == ["a"]
    second.engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", r"'not a url', expected an SQLAlchemy URL as sqlite:///var/state.db"),
        ("sqlite://", r"in memory, which no other process can see; name a file"),
        ("sqlite:///:memory:", r"in memory"),
        ("nosuch://host/db", r"driver that is not installed"),
        ("sqlite:////dev/null/state.db", r"/dev/null cannot be made \((File exists|Not a directory)\)"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, message: str) -> None:
    with pytest.raises(StateError, match=message):
        open_state(url)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StateError, match=r"state.db: file is not a database; expected .* run `penstock doctor`"):
        open_state(f"sqlite:///{tmp_path}/state.db")


def test_a_database_that_may_not_be_written_says_so(state: State) -> None:
    path = state.engine.url.database
    state.engine.dispose()
    sa.event.listen(state.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    with pytest.raises(StateError, match="attempt to write a readonly database"), state.write() as conn:
        conn.execute(sa.insert(leases).values(FIRST))
    connection = sqlite3.connect(str(path))
    assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    connection.close()


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_to_the_microsecond(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    if moment < datetime.max.replace(tzinfo=UTC):
        assert to_micros(moment + timedelta(microseconds=1)) == to_micros(moment) + 1


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(StateError, match=r"2026-01-05T00:00:00 has no zone"):
        to_micros(datetime(2026, 1, 5))
