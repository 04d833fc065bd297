"""What is accepted stays, once; what is refused says why; the tail misses nothing."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_bench import NOW, event, settings_under, table

from penstock.data import journal as tested
from penstock.data.journal import Accepted, Journal
from penstock.data.state import open_state
from penstock.errors import SchemaError
from penstock.records import EVENT_COLUMNS


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    config = settings_under(tmp_path)
    state = open_state(config.state.url)
    yield Journal(state, config.data)
    state.engine.dispose()


def test_an_event_comes_back_as_it_was_sent(journal: Journal) -> None:
    sent = event(1, value=4.5, request_id="r", position=0, propensity=0.25, query="naïve ✓ 茶")
    assert journal.append([sent], NOW) == Accepted(1, 0, [])
    read = journal.read(0, 10)
    assert read.schema == {"seq": pl.Int64(), **EVENT_COLUMNS}
    assert read.drop("seq").to_dicts() == [{name: sent.get(name) for name in EVENT_COLUMNS} | {"received_at": NOW}]
    assert journal.pending() == 1


def test_few_events_and_many_make_the_same_table(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [event(n, value=n / 2 if n % 2 else None, position=n if n % 3 else None, query="q" * n) for n in range(9)]
    journal.append(sent, NOW)
    few = journal.read(0, 100)
    monkeypatch.setattr(tested, "FEW", 3)
    assert journal.read(0, 100).equals(few)
    assert journal.read(0, 100).schema == few.schema


def test_the_first_of_equal_ids_stays(journal: Journal) -> None:
    assert journal.append([event(1), event(1, item_id="other")], NOW) == Accepted(1, 1, [])
    assert journal.append([event(1, item_id="third"), event(2)], NOW) == Accepted(1, 1, [])
    assert journal.read(0, 10)["item_id"].to_list() == ["i1", "i1"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "clik"}, "kind is 'clik', expected one of impression, history, click"),
    ({"kind": None}, "kind is missing"),
    ({"event_id": None}, "event_id is missing"),
    ({"event_id": ""}, "event_id is empty"),
    ({"user_id": 7}, "user_id is int, expected text"),
    ({"item_id": b"i1"}, "item_id is bytes, expected text"),
    ({"item_id": "i" * 257}, "item_id holds 257 characters, at most 256 are allowed"),
    ({"value": float("nan")}, "value is nan, expected a finite number"),
    ({"value": float("-inf")}, "value is -inf, expected a finite number"),
    ({"value": 10**400}, "value is inf, expected a finite number"),
    ({"value": "4"}, "value is str, expected a number"),
    ({"value": True}, "value is bool, expected a number"),
    ({"propensity": float("nan")}, "propensity is nan"),
    ({"position": 1.5}, "position is float, expected a whole number"),
    ({"position": 2**40}, "position is 1099511627776, expected at most 2147483647"),
    ({"query": "q" * 20_001}, "query holds 20001 characters, at most 20000 are allowed"),
    ({"query": "half \ud83d"}, "query holds a NUL character or half a surrogate pair, expected UTF-8"),
    ({"query": "nul \0"}, "query holds a NUL character"),
    ({"at": None}, "at is missing"),
    ({"at": datetime(2026, 1, 5)}, "at is 2026-01-05T00:00:00 without a zone"),
    ({"at": "yesterday"}, "at is 'yesterday', expected ISO 8601"),
    ({"at": 1_700_000_000}, "at is int, expected a time with a zone"),
    ({"at": NOW + timedelta(minutes=6)}, "at is 2026-03-02T12:06:00+00:00, expected no later than 2026-03-02T12:05"),
    ({"colour": "red"}, "unknown field 'colour'"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=[reason[:30] for _, reason in REFUSED])
def test_a_refused_event_says_why_and_the_others_are_taken(
    journal: Journal, change: dict[str, Any], reason: str
) -> None:
    result = journal.append([event(1), event(2) | change, event(3)], NOW)
    ((index, event_id, found),) = result.rejected
    assert (result.accepted, result.duplicates, index) == (2, 0, 1)
    assert event_id == change.get("event_id", "e00002")
    assert reason in found
    assert journal.read(0, 10)["event_id"].to_list() == ["e00001", "e00003"]


def test_what_is_no_object_is_refused(journal: Journal) -> None:
    result = journal.append([["not", "an", "event"], event(1)], NOW)  # type: ignore[list-item]
    assert result == Accepted(1, 0, [(0, None, "event is list, expected an object with fields")])


def test_what_is_odd_but_possible_is_taken(journal: Journal) -> None:
    odd = [
        event(1, at=NOW + timedelta(minutes=5)),
        event(2, at="2026-03-02T13:00:00+02:00"),
        event(3, item_id="never heard of", propensity=7.0, position=-1, query="", value=3),
        event(4, received_at=datetime(1990, 1, 1, tzinfo=UTC)),
    ]
    assert journal.append(odd, NOW) == Accepted(4, 0, [])
    read = journal.read(0, 10)
    assert read["at"][1] == NOW - timedelta(hours=1)
    assert read["query"][2] is None
    assert read["received_at"].unique().to_list() == [NOW], "a sender does not say when it was received"


def test_a_table_keeps_when_it_was_received_but_not_in_the_future(journal: Journal) -> None:
    received = [NOW - timedelta(minutes=29), NOW + timedelta(days=1), None]
    rows = table([event(number, received_at=moment) for number, moment in enumerate(received)])
    assert journal.append(rows, NOW) == Accepted(3, 0, [])
    assert journal.read(0, 10)["received_at"].to_list() == [received[0], NOW, NOW]


def test_a_table_with_one_bad_row_loses_that_row_only(journal: Journal) -> None:
    rows = table([event(1), event(2, value=float("nan")), event(3) | {"user_id": None}])
    result = journal.append(rows, NOW)
    assert result.accepted == 1
    assert [(index, name) for index, name, _ in result.rejected] == [(1, "e00002"), (2, "e00003")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("item_id", "kind"), r"column item_id, kind is missing, found event_id, user_id"),
        (lambda rows: rows.with_columns(at=pl.lit("now")), r"column at is String, expected Datetime"),
        (lambda rows: rows.with_columns(value=pl.lit("4")), r"column value is String, expected Float64"),
        (lambda rows: pl.DataFrame(), r"found no columns"),
    ],
)
def test_a_table_of_another_shape_is_refused_whole(journal: Journal, change: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        journal.append(change(table([event(1), event(2)])), NOW)
    assert journal.pending() == 0


def test_nothing_to_append(journal: Journal) -> None:
    assert journal.append([], NOW) == Accepted(0, 0, [])
    assert journal.read(0, 10).is_empty()


EVENTS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["click", "nonsense"])), max_size=12)


@given(st.lists(EVENTS, max_size=5), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_every_batch_adds_up_and_the_tail_sees_each_event_once(batches: list[list[tuple[int, str]]], page: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = settings_under(Path(folder))
        state = open_state(config.state.url)
        journal = Journal(state, config.data)
        known: set[str] = set()
        for batch in batches:
            result = journal.append([event(number, kind=kind) for number, kind in batch], NOW)
            fine = {f"e{number:05}" for number, kind in batch if kind == "click"}
            assert result.accepted == len(fine - known)
            assert result.accepted + result.duplicates + len(result.rejected) == len(batch)
            known |= fine
        seen: list[str] = []
        last = 0
        while len(rows := journal.read(last, page)):
            assert rows["seq"].is_sorted()
            assert rows["seq"][0] > last
            seen += rows["event_id"].to_list()
            last = rows["seq"][-1]
        assert (sorted(seen), journal.pending()) == (sorted(known), len(known))
        state.engine.dispose()


def test_senders_at_once_lose_nothing_and_a_tail_misses_nothing(journal: Journal) -> None:
    accepted: list[int] = []
    seen: list[str] = []
    done = threading.Event()

    def send(sender: int) -> None:
        for batch in range(8):
            rows = [event(100 * (sender // 2) + 10 * batch + n) for n in range(10)]  # two senders send the same
            accepted.append(journal.append(rows, NOW).accepted)

    def follow() -> None:
        last = 0
        while True:
            ended = done.is_set()
            rows = journal.read(last, 7)
            if len(rows):
                seen.extend(rows["event_id"].to_list())
                last = rows["seq"][-1]
            elif ended:
                return

    reader = threading.Thread(target=follow)
    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in (reader, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    done.set()
    reader.join()
    assert sum(accepted) == 160
    assert (len(seen), len(set(seen))) == (160, 160)


def test_what_was_accepted_outlives_a_kill(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from stream_bench import NOW, event, settings_under
from penstock.data.journal import Journal
from penstock.data.state import open_state
settings = settings_under(Path(sys.argv[1]))
journal = Journal(open_state(settings.state.url), settings.data)
print(journal.append([event(1), event(2)], NOW).accepted, flush=True)
state = journal.state
with state.write() as conn:
    conn.exec_driver_sql("UPDATE events SET item_id = 'half'")
    os._exit(9)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (9, "2\n"), run.stderr
    config = settings_under(tmp_path)
    state = open_state(config.state.url)
    journal = Journal(state, config.data)
    assert journal.read(0, 10)["item_id"].to_list() == ["i1", "i1"], "and what was not committed is gone"
    assert journal.append([event(1), event(2), event(3)], NOW) == Accepted(1, 2, [])
    state.engine.dispose()
