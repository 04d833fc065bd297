"""Any change of the log is found, and where."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from registry_bench import NOW

from penstock.data.state import State, open_state
from penstock.registry import audit
from penstock.registry.audit import Anchor, append, entries, head, verify
from penstock.registry.tables import audit as table

Tamper = Callable[[sa.Connection], Any]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state database with a log of five entries."""
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    state.ensure()
    for number in range(1, 6):
        with state.write() as conn:
            append(conn, "ada", "promote", f"version:{number}", {"digest": f"d{number}", "reason": "naïve ✓"}, NOW)
    yield state
    state.engine.dispose()


def test_an_untouched_log_is_whole(state: State) -> None:
    assert verify(state, head(state)) == audit.AuditVerdict(True, 5, None, "5 entries, every hash fits")
    assert [entry.seq for entry in entries(state, limit=2)] == [4, 5]
    (entry,) = entries(state, "version:3")
    assert (entry.at, entry.details) == (NOW, {"digest": "d3", "reason": "naïve ✓"})


def test_an_empty_log_is_whole_unless_something_is_known_of_it(tmp_path: Path) -> None:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    state.ensure()
    assert verify(state).ok
    assert head(state) is None
    assert verify(state, Anchor(3, "a" * 64)).broken_at == 1
    state.engine.dispose()


@pytest.mark.parametrize("column", ["at", "actor", "action", "subject", "details", "previous_hash", "hash"])
@pytest.mark.parametrize("seq", [1, 3, 5])
def test_an_altered_entry_is_found(state: State, column: str, seq: int) -> None:
    value: object = 1 if column == "at" else "{}"
    with state.write() as conn:
        conn.execute(sa.update(table).where(table.c.seq == seq).values(**{column: value}))
    verdict = verify(state)
    assert (verdict.ok, verdict.broken_at) == (False, seq)


def _remove(conn: sa.Connection) -> None:
    conn.execute(sa.delete(table).where(table.c.seq == 3))


def _remove_and_close_the_gap(conn: sa.Connection) -> None:
    _remove(conn)
    conn.execute(sa.update(table).where(table.c.seq > 3).values(seq=table.c.seq - 1))


def _swap(conn: sa.Connection) -> None:
    for old, new in ((3, 30), (4, 3), (30, 4)):
        conn.execute(sa.update(table).where(table.c.seq == old).values(seq=new))


@pytest.mark.parametrize("tamper", [_remove, _remove_and_close_the_gap, _swap])
def test_a_removed_or_moved_entry_is_found(state: State, tamper: Tamper) -> None:
    with state.write() as conn:
        tamper(conn)
    verdict = verify(state)
    assert (verdict.ok, verdict.broken_at) == (False, 3)


def test_a_cut_or_rewritten_end_is_found_by_the_anchor(state: State) -> None:
    anchor = head(state)
    with state.write() as conn:
        conn.execute(sa.delete(table).where(table.c.seq >= 4))
    assert verify(state).ok
    assert verify(state, anchor).broken_at == 4
    for number in (4, 5):
        with state.write() as conn:
            append(conn, "eve", "promote", f"version:{number}", {}, NOW)
    verdict = verify(state, anchor)
    assert (verdict.ok, verdict.broken_at) == (False, 5)
    assert "cut or rewritten" in verdict.reason


def test_an_entry_exists_exactly_when_its_transaction_does(state: State) -> None:
    def fails() -> None:
        with state.write() as conn:
            append(conn, "ada", "promote", "version:6", {}, NOW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert len(entries(state)) == 5
    assert verify(state).ok


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_edit_of_any_row_is_found(state: State, data: st.DataObject) -> None:
    """One character more, less or other, in any column of any row: the log says which row does not fit."""
    seq = data.draw(st.integers(1, 5))
    column = data.draw(st.sampled_from([c.name for c in table.c if c.name != "seq"]))
    with state.read() as conn:
        before = conn.execute(sa.select(table.c[column]).where(table.c.seq == seq)).scalar_one()
    if isinstance(before, int):
        after: object = before + data.draw(st.sampled_from([-1, 1, 1000]))
    else:
        place = data.draw(st.integers(0, len(before)))
        after = before[:place] + data.draw(st.sampled_from(["", "x", "0", " ", "\u0000"])) + before[place + 1 :]
    assume(after != before)
    with state.write() as conn:
        conn.execute(sa.update(table).where(table.c.seq == seq).values(**{column: after}))
    verdict = verify(state, None)
    with state.write() as conn:
        conn.execute(sa.update(table).where(table.c.seq == seq).values(**{column: before}))
    assert (verdict.ok, verdict.broken_at) == (False, seq)
    assert verify(state).ok
