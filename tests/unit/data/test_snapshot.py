"""Each event lands in one snapshot, equal events in equal files, and a crash in between loses nothing."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stream_bench import NOW, closed, event, settings_under, table

from penstock.data import snapshot as module
from penstock.data.journal import Journal
from penstock.data.snapshot import (
    close_snapshot,
    find_snapshot,
    list_snapshots,
    mark_learned,
    read_snapshot,
    recent_snapshots,
)
from penstock.data.state import State, open_state, snapshots
from penstock.errors import DataError, SchemaError, StateError
from penstock.settings import Settings


@dataclass(frozen=True)
class Loop:
    settings: Settings
    state: State
    journal: Journal


def loop_under(root: Path) -> Loop:
    config = settings_under(root)
    state = open_state(config.state.url)
    return Loop(config, state, Journal(state, config.data))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = loop_under(tmp_path)
    yield loop
    loop.state.engine.dispose()


def test_takes_what_is_older_than_the_watermark(loop: Loop, tmp_path: Path) -> None:
    patient = loop.settings.override({"data.allowed_lateness_minutes": 5})
    loop.journal.append([event(3, 20), event(1, 30, kind="impression"), event(2, 20), event(4, 5), event(5, 4)], NOW)
    manifest = close_snapshot(loop.state, patient, NOW)
    assert manifest is not None
    assert read_snapshot(manifest)["event_id"].to_list() == ["e00001", "e00002", "e00003"], "by time, then id"
    assert (manifest.rows, manifest.late_rows, manifest.counts_by_kind) == (3, 0, {"click": 2, "impression": 1})
    assert manifest.window_start == "2026-03-02T11:30:00+00:00"
    assert manifest.window_end == manifest.watermark == "2026-03-02T11:51:00.000001+00:00", "4 minutes ago, less 5"
    folder = tmp_path / "snapshots" / manifest.snapshot_id
    assert sorted(path.name for path in folder.iterdir()) == ["events.parquet", "manifest.json"]
    assert json.loads((folder / "manifest.json").read_text()) == asdict(manifest)
    assert [path.name for path in folder.parent.iterdir()] == [manifest.snapshot_id], "no part is left"
    assert loop.journal.pending() == 2


def test_what_comes_late_is_taken_next_and_counted(loop: Loop) -> None:
    first = closed(loop.state, loop.settings, [event(1, 30)])
    later = NOW + timedelta(minutes=10)
    second = closed(loop.state, loop.settings, [event(2, 35), event(3, 1)], later)
    assert second.window_start == first.window_end
    assert (second.rows, second.late_rows) == (2, 1)


def test_too_few_events_wait(loop: Loop) -> None:
    patient = loop.settings.override({"validation.min_rows": 3})
    assert close_snapshot(loop.state, patient, NOW) is None
    loop.journal.append([event(1), event(2)], NOW)
    assert close_snapshot(loop.state, patient, NOW) is None
    assert loop.journal.pending() == 2
    loop.journal.append([event(3)], NOW)
    manifest = close_snapshot(loop.state, patient, NOW)
    assert manifest is not None
    assert manifest.rows == 3
    assert close_snapshot(loop.state, patient, NOW) is None, "nothing is taken twice"


def test_equal_events_give_equal_files_whatever_their_order(tmp_path: Path) -> None:
    rows = [event(number, 30 + number % 3, value=number / 3) for number in range(50)]
    digests = set()
    for name, sent in (("a", rows), ("b", rows[::-1])):
        loop = loop_under(tmp_path / name)
        digests.add(closed(loop.state, loop.settings, sent).sha256)
        loop.state.engine.dispose()
    assert len(digests) == 1


@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=10), min_size=1, max_size=5))
@hypothesis_settings(max_examples=20, deadline=None)
def test_every_accepted_event_lands_in_exactly_one_snapshot(batches: list[list[tuple[int, int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loop = loop_under(Path(folder))
        now, accepted = NOW, 0
        held: list[str] = []
        for batch in [*batches, []]:
            rows = [event(number, at=now - timedelta(minutes=ago)) for number, ago in batch]
            accepted += loop.journal.append(rows, now).accepted
            manifest = close_snapshot(loop.state, loop.settings, now)
            if manifest is not None:
                held += read_snapshot(manifest)["event_id"].to_list()
            assert len(held) + loop.journal.pending() == accepted
            now += timedelta(minutes=10)
        assert len(held) == len(set(held)) == accepted
        loop.state.engine.dispose()


def test_a_crash_before_the_commit_leaves_the_events_pending(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.journal.append([event(1), event(2)], NOW)
    described = module._write_folder

    def crash(*arguments: object) -> None:
        described(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write_folder", crash)
    with pytest.raises(KeyboardInterrupt):
        close_snapshot(loop.state, loop.settings, NOW)
    monkeypatch.undo()
    assert (loop.journal.pending(), list_snapshots(loop.state)) == (2, [])
    manifest = close_snapshot(loop.state, loop.settings, NOW)
    assert manifest is not None
    assert len(read_snapshot(manifest)) == 2


def test_a_folder_that_cannot_be_written_leaves_the_events_pending(loop: Loop, tmp_path: Path) -> None:
    loop.journal.append([event(1)], NOW)
    (tmp_path / "snapshots").write_text("in the way")
    with pytest.raises(DataError, match=r"snapshots cannot be written .* its events stay pending"):
        close_snapshot(loop.state, loop.settings, NOW)
    assert loop.journal.pending() == 1


def test_a_truncated_or_altered_or_missing_file_is_refused(loop: Loop) -> None:
    manifest = closed(loop.state, loop.settings, [event(number) for number in range(200)])
    path = Path(manifest.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(SchemaError, match=rf"events.parquet \({len(whole) - 10} bytes\) has sha256 .* replay"):
        read_snapshot(manifest)
    table([event(1)]).write_parquet(path)
    with pytest.raises(SchemaError, match=rf"its manifest says {manifest.sha256[:12]}…: it was cut short or altered"):
        read_snapshot(manifest)
    path.unlink()
    with pytest.raises(SchemaError, match=r"cannot be read \(No such file or directory\); the journal still holds"):
        read_snapshot(manifest)


def test_a_truncated_file_with_a_digest_to_match_is_refused(loop: Loop) -> None:
    manifest = closed(loop.state, loop.settings, [event(1)])
    path = Path(manifest.path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SchemaError, match="is no whole Parquet file"):
        read_snapshot(replace(manifest, sha256=module.file_sha256(path)))


def test_a_snapshot_is_learned_once(loop: Loop) -> None:
    manifest = closed(loop.state, loop.settings, [event(1)])
    assert find_snapshot(loop.state, manifest.snapshot_id) == (manifest, "closed")
    with loop.state.write() as conn:
        mark_learned(conn, manifest.snapshot_id)
    assert find_snapshot(loop.state, manifest.snapshot_id)[1] == "learned"
    with pytest.raises(StateError, match="is learned, expected closed"), loop.state.write() as conn:
        mark_learned(conn, manifest.snapshot_id)
    with pytest.raises(StateError, match="no snapshot 'ghost'"):
        find_snapshot(loop.state, "ghost")


def test_lists_by_status_and_the_recent_past_without_what_was_refused(loop: Loop) -> None:
    made = []
    for number in range(5):
        now = NOW + timedelta(minutes=10 * number)
        made.append(closed(loop.state, loop.settings, [event(number, at=now - timedelta(minutes=6))], now))
    with loop.state.write() as conn:
        mark_learned(conn, made[0].snapshot_id)
        refused = snapshots.c.snapshot_id == made[2].snapshot_id
        conn.execute(sa.update(snapshots).where(refused).values(status="quarantined"))
    assert list_snapshots(loop.state) == made
    assert list_snapshots(loop.state, limit=2) == made[3:]
    assert list_snapshots(loop.state, "closed") == [made[1], made[3], made[4]]
    assert recent_snapshots(loop.state, made[4], 2) == [made[1], made[3]]
    assert recent_snapshots(loop.state, made[0], 5) == []


def test_the_columns_are_the_contract(loop: Loop) -> None:
    manifest = closed(loop.state, loop.settings, [event(1, position=3, value=2, query="q")])
    (row,) = read_snapshot(manifest).select(pl.exclude("at", "received_at")).to_dicts()
    assert row == {
        "event_id": "e00001",
        "user_id": "u",
        "item_id": "i1",
        "kind": "click",
        "value": 2.0,
        "request_id": None,
        "position": 3,
        "propensity": None,
        "query": "q",
    }
