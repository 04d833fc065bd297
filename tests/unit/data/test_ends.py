"""Whoever asks how far a table goes hears of every commit, by whichever connection."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.data.ends import Ends
from penstock.data.journal import Journal
from penstock.data.posted_items import PostedItems
from penstock.data.posted_items import table as posted_items
from penstock.data.state import State, events, open_state
from penstock.settings import load_settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    PostedItems(state)
    yield state
    state.engine.dispose()


def accept(state: State, tmp_path: Path, *numbers: int) -> None:
    settings = load_settings(PARAMS, {}).override({"data.user_key_file": f"{tmp_path}/users.json"})
    rows = [{"event_id": f"e{n}", "user_id": "u", "item_id": "i", "kind": "click", "at": NOW} for n in numbers]
    assert Journal(state, settings.data).append(rows, NOW).accepted == len(numbers)


def test_a_commit_of_this_process_and_of_another_connection_is_heard_of(state: State, tmp_path: Path) -> None:
    ends = Ends(state, (events.c.seq, posted_items.c.seq))
    assert ends.read() == (0, 0)
    accept(state, tmp_path, 1, 2)
    assert ends.read() == (2, 0)
    other = open_state(state.engine.url.render_as_string())
    accept(other, tmp_path, 3)
    PostedItems(other).append([{"item_id": "i9", "title": "Wool blanket"}], NOW)
    assert ends.read() == (3, 1)
    other.engine.dispose()


def test_nothing_is_looked_up_while_nobody_writes(state: State, tmp_path: Path) -> None:
    ends = Ends(state, (events.c.seq,))
    asked: list[str] = []
    assert ends._connection is not None
    ends._connection.set_trace_callback(asked.append)
    for _ in range(3):
        assert ends.read() == (0,)
    accept(state, tmp_path, 1)
    for _ in range(3):
        assert ends.read() == (1,)
    assert sum("SELECT" in statement for statement in asked) == 2


def test_a_write_that_is_not_committed_is_not_heard_of(state: State) -> None:
    ends = Ends(state, (events.c.seq,))
    values = {"event_id": "e1", "user_id": "u", "item_id": "i", "kind": "click", "at": 0, "received_at": 0}
    with state.write() as conn:
        conn.execute(events.insert().values(**values))
        assert ends.read() == (0,)
    assert ends.read() == (1,)


def test_what_cannot_be_read_is_as_it_was_and_is_said_once(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends(state, (events.c.seq,))
    accept(state, tmp_path, 1)
    assert ends.read() == (1,)
    assert ends._connection is not None
    ends._connection.close()
    with caplog.at_level(logging.WARNING):
        assert [ends.read(), ends.read()] == [(1,), (1,)]
    assert len(caplog.records) == 1
    assert "the last known ones stand" in caplog.text
