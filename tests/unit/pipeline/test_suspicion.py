"""Suspects of a snapshot: strangers are told by earlier snapshots, and what a person sent back is not held again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from core_bench import small_settings

from penstock.data.journal import Journal
from penstock.data.quarantine import list_quarantine, quarantine_rows, replay
from penstock.data.snapshot import close_snapshot, read_snapshot
from penstock.pipeline.ledger import opened
from penstock.pipeline.suspicion import answered_in, known_users, suspects, too_many
from penstock.serving.answer_log import Answered, AnswerLog

AT = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_farm_is_held_once_and_let_through_when_sent_back(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **{"validation.min_rows": 1, "data.hash_users": False})
    state = opened(settings)
    journal = Journal(state, settings.data)

    def arrive(users: list[str], hour: int) -> None:
        at = AT + timedelta(hours=hour)
        rows = [
            {
                "event_id": f"{hour}-{n}",
                "user_id": user,
                "item_id": "i1",
                "kind": "click",
                "at": at + timedelta(seconds=n),
            }
            for n, user in enumerate(users)
        ]
        assert journal.append(rows, at + timedelta(minutes=1)).accepted == len(users)

    def close(hour: int):  # type: ignore[no-untyped-def]
        manifest = close_snapshot(state, settings, AT + timedelta(hours=hour, minutes=30))
        assert manifest is not None
        return manifest

    arrive(["ann", "bob"], 0)
    first = close(0)
    assert suspects(state, settings, first, read_snapshot(first)).is_empty()
    arrive(["ann", *[f"bought{n}" for n in range(6)]], 1)
    second = close(1)
    assert known_users(state, second.snapshot_id, ["ann", "bob", "bought1"]) == {"ann", "bob"}
    held = suspects(state, settings, second, read_snapshot(second))
    assert held["user_id"].to_list() == [f"bought{n}" for n in range(6)]
    assert held["reasons"][0][0].startswith("suspect: 6 acts on i1")
    quarantine_rows(state, second, held)
    arrive(["bought1"], 2)
    third = close(2)
    assert known_users(state, third.snapshot_id, ["bought1"]) == set(), "what is held makes nobody known"
    replay(state, [entry.id for entry in list_quarantine(state)])
    fourth = close(3)
    assert len(read_snapshot(fourth)) == 6
    assert suspects(state, settings, fourth, read_snapshot(fourth)).is_empty()


def test_a_mass_of_suspects_refuses_the_snapshot(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    assert too_many(20, 100, settings) == []
    assert too_many(21, 100, settings) == [
        "suspect rows: found 21 of 100 (21.0%), expected at most 20.0% (suspects.max_share)"
    ]


def test_impressions_are_held_against_the_answers_that_were_kept(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **{"validation.min_rows": 1, "data.hash_users": False})
    state = opened(settings)
    shown = [
        {"user_id": f"u{n}", "item_id": "i1", "kind": "impression", "request_id": f"r{n}"} for n in range(4)
    ]  # fmt: skip
    good = pl.DataFrame(shown)
    assert answered_in(state, good, 0.5) is None, "nothing was kept: something else showed the items"
    log = AnswerLog(state, settings)
    log.put(Answered("r0", AT, "1", "u0", body={"items": [["i1", 0.5, "popular", 1.0], ["i2", 0.4, "popular", 1.0]]}))
    log.flush()
    assert answered_in(state, good, 0.5) is None
    log.put(Answered("r1", AT, "1", None, body={"items": [["i3", 0.5, "popular", 1.0]]}))
    log.put(Answered("r2", AT, "1", "u2", failed=True))
    log.flush()
    answered = answered_in(state, good, 0.5)
    assert answered is not None
    assert answered.sort("request_id", "item_id").rows() == [("r0", "i1", "u0"), ("r0", "i2", "u0"), ("r1", "i3", None)]
    assert answered_in(state, good.clear(), 0.5) is None
