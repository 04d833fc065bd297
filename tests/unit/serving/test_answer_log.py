"""Answers are kept off the hot path, marked when clicked, and dropped when old."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from serving_fakes import NOW, event

from penstock.data.journal import Journal
from penstock.data.state import State, open_state
from penstock.errors import StateError
from penstock.serving import answer_log
from penstock.serving.answer_log import Answered, AnswerLog, answers, find_answer, forget_user
from penstock.serving.keeper import Keeper
from penstock.settings import Settings

LATER = NOW + timedelta(seconds=10)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    yield state
    state.engine.dispose()


@pytest.fixture
def kept(state: State, settings: Settings) -> AnswerLog:
    return AnswerLog(state, settings)


def one(name: str = "r1", **values: Any) -> Answered:
    return Answered(name, values.pop("at", NOW), "7", "u1", body={"items": [["i1", 0.5, "popular"]]}, **values)


def count(state: State) -> int:
    with state.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(answers)).scalar_one())


def test_an_answer_is_found_as_it_was_given(state: State, kept: AnswerLog) -> None:
    kept.put(one())
    assert find_answer(state, "r1") is None, "not before it is written"
    kept.work(NOW)
    assert find_answer(state, "r1") == one()
    assert find_answer(state, "r2") is None


def test_a_click_is_matched_with_its_answer_and_only_a_positive_event_is_one(
    state: State, settings: Settings, kept: AnswerLog
) -> None:
    journal = Journal(state, settings.data)
    for name in ("r1", "r2", "r3", "r4"):
        kept.put(one(name))
    kept.work(NOW)
    events = [
        event(1) | {"request_id": "r1", "kind": "impression"},
        event(2) | {"request_id": "r2"},
        event(3) | {"request_id": "r3", "kind": "rating", "value": 1.0},
        event(4) | {"request_id": "r4", "kind": "rating", "value": 5.0},
        event(5) | {"request_id": "nobody's"},
        event(6),
    ]
    journal.append(events, NOW)
    journal.append([event(7) | {"request_id": "r2"}], NOW + timedelta(seconds=1))
    kept.work(LATER)
    clicked = {name: find_answer(state, name).clicked_at for name in ("r1", "r2", "r3", "r4")}  # type: ignore[union-attr]
    assert clicked == {"r1": None, "r2": NOW, "r3": None, "r4": NOW}


def test_a_click_that_comes_before_its_answer_is_written_is_not_lost(
    state: State, settings: Settings, kept: AnswerLog
) -> None:
    Journal(state, settings.data).append([event(1) | {"request_id": "r1"}], NOW)
    elsewhere = AnswerLog(state, settings)
    elsewhere.work(NOW + timedelta(seconds=0.1))
    kept.put(one())
    kept.flush()
    elsewhere.work(LATER)
    found = find_answer(state, "r1")
    assert found is not None
    assert found.clicked_at == NOW


def test_marking_goes_on_where_it_stopped_and_begins_at_the_present(state: State, settings: Settings) -> None:
    journal = Journal(state, settings.data)
    journal.append([event(number) for number in range(3)], NOW)
    first = AnswerLog(state, settings)
    assert first.mark_clicked(LATER) == 0, "what came before there were answers names none"
    journal.append([event(number) for number in range(3, 5)], NOW)
    assert first.mark_clicked(LATER) == 2
    assert AnswerLog(state, settings).mark_clicked(LATER) == 0


def test_what_cannot_be_written_now_is_written_later_and_once(
    state: State, kept: AnswerLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: State) -> None:
        raise StateError("away")

    for number in range(3):
        kept.put(one(f"r{number}"))
    with monkeypatch.context() as patch:
        patch.setattr(State, "write", away)
        with pytest.raises(StateError):
            kept.work(NOW)
    kept.put(one("r3"))
    kept.work(NOW)
    kept.put(one("r3"))
    kept.work(NOW)
    assert count(state) == 4


def test_more_answers_than_one_statement_takes_are_all_written_in_order(state: State, kept: AnswerLog) -> None:
    names = [f"r{number}" for number in range(2 * answer_log.BATCH + 1)]
    for name in names:
        kept.put(one(name))
    assert kept.flush() == len(names)
    with state.read() as conn:
        assert conn.execute(sa.select(answers.c.request_id).order_by(answers.c.seq)).scalars().all() == names


def test_a_full_queue_drops_the_oldest_and_counts_them(
    state: State, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_log, "QUEUE", 5)
    kept = AnswerLog(state, settings)
    for number in range(8):
        kept.put(one(f"r{number}"))
    kept.flush()
    assert (kept.dropped, count(state)) == (3, 5)
    assert find_answer(state, "r2") is None
    assert find_answer(state, "r3") is not None


def test_old_answers_go_and_so_do_too_many(state: State, settings: Settings) -> None:
    kept = AnswerLog(state, settings.override({"service.answers_kept_h": 1, "service.answers_max_rows": 4}))
    for number in range(3):
        kept.put(one(f"old{number}", at=NOW - timedelta(hours=2)))
    for number in range(6):
        kept.put(one(f"new{number}"))
    kept.flush()
    assert kept.drop_old(NOW) == 5
    assert [find_answer(state, f"new{number}") is not None for number in range(6)] == [False] * 2 + [True] * 4
    assert kept.drop_old(NOW) == 0
    assert kept.drop_old(NOW + timedelta(hours=2)) == 4
    assert (count(state), kept.drop_old(NOW + timedelta(hours=2))) == (0, 0)


def test_a_user_can_be_forgotten(state: State, kept: AnswerLog) -> None:
    kept.put(one("r1"))
    kept.put(Answered("r2", NOW, "7", "u2"))
    kept.flush()
    with state.write() as conn:
        assert forget_user(conn, "u1") == 1
    assert find_answer(state, "r1") is None
    assert find_answer(state, "r2") is not None


def test_none_is_kept_where_that_is_the_setting_or_there_is_no_state(state: State, settings: Settings) -> None:
    for log in (AnswerLog(None, settings), AnswerLog(state, settings.override({"service.answers_kept_h": 0}))):
        log.put(one())
        log.work(NOW)
        assert log.drop_old(NOW) == 0
    assert find_answer(state, "r1") is None


def test_the_keeper_outlives_a_chore_that_fails_and_ends_with_a_last_call() -> None:
    calls: list[str] = []

    def failing(now: object) -> None:
        calls.append("failing")
        raise StateError("away")

    chores = [
        (0.005, failing),
        (0.005, lambda now: calls.append("fine")),
        (60.0, lambda now: calls.append("last")),
    ]
    keeper = Keeper(chores, lambda: NOW)
    keeper.start()
    until = time.monotonic() + 50
    while calls.count("failing") < 2 and time.monotonic() < until:
        time.sleep(0.005)
    assert "last" not in calls
    keeper.stop()
    assert calls.count("failing") >= 2
    assert calls.count("fine") >= 2
    assert calls[-1] == "last"
    assert keeper.error is None or "away" in keeper.error
