"""What is held keeps its reasons, comes back whole after a fix, and is learned from once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from stream_bench import NOW, closed, event, settings_under

from penstock.data.journal import Journal
from penstock.data.quarantine import (
    Replayed,
    is_waived,
    list_quarantine,
    quarantine_rows,
    quarantine_snapshot,
    replay,
    waive,
)
from penstock.data.rules import reasons_of, row_rules
from penstock.data.snapshot import close_snapshot, find_snapshot, mark_learned, read_snapshot
from penstock.data.state import State, open_state
from penstock.data.state import quarantine as table
from penstock.errors import StateError
from penstock.records import SnapshotManifest
from penstock.settings import Settings

LATER = NOW + timedelta(minutes=10)


@dataclass(frozen=True)
class Held:
    settings: Settings
    state: State
    journal: Journal
    manifest: SnapshotManifest
    bad: pl.DataFrame

    def next_snapshot(self) -> list[str]:
        manifest = close_snapshot(self.state, self.settings, LATER)
        return [] if manifest is None else read_snapshot(manifest)["event_id"].to_list()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    """A snapshot of three events, two of them of an item that the catalogue does not hold."""
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    rows = [event(1), event(2, item_id="new"), event(3, item_id="new", position=-1, value=2.5)]
    manifest = closed(state, settings, rows)
    events = read_snapshot(manifest)
    judged = events.with_columns(reasons_of(events, row_rules(manifest, ["i1"], settings)))
    bad = judged.filter(pl.col("reasons").list.len() > 0)
    yield Held(settings, state, Journal(state, settings.data), manifest, bad)
    state.engine.dispose()


def test_rows_are_held_with_all_their_reasons_once(held: Held) -> None:
    updated = quarantine_rows(held.state, held.manifest, held.bad, NOW)
    assert quarantine_rows(held.state, held.manifest, held.bad, LATER) == updated, "a round that runs again"
    assert updated.quarantined_rows == 2
    assert find_snapshot(held.state, held.manifest.snapshot_id) == (updated, "closed")
    first, second = list_quarantine(held.state)
    assert (first.event_id, second.event_id, second.created_at) == ("e00002", "e00003", NOW)
    assert [reason.split(":")[0] for reason in second.reasons] == ["item known", "position in range"]
    assert second.event is not None
    assert second.event["at"] == "2026-03-02T11:30:00+00:00"
    assert (second.event["value"], second.event["position"], "reasons" in second.event) == (2.5, -1, False)


def test_nothing_bad_holds_nothing(held: Held) -> None:
    assert quarantine_rows(held.state, held.manifest, held.bad.head(0), NOW) == held.manifest
    assert list_quarantine(held.state, None) == []


def test_a_nan_is_held_as_json_can(held: Held) -> None:
    bad = held.bad.with_columns(value=pl.lit(float("nan")))
    quarantine_rows(held.state, held.manifest, bad, NOW)
    entry = list_quarantine(held.state)[0]
    assert entry.event is not None
    assert entry.event["value"] is None


def test_a_replayed_row_is_in_the_next_snapshot_once(held: Held) -> None:
    quarantine_rows(held.state, held.manifest, held.bad, NOW)
    first, second = list_quarantine(held.state)
    assert replay(held.state, [first.id]) == Replayed(1, 1)
    assert held.journal.pending() == 1
    assert held.next_snapshot() == ["e00002"]
    assert [entry.id for entry in list_quarantine(held.state)] == [second.id]
    with pytest.raises(StateError, match=rf"entry {first.id} is replayed, expected held; nothing was changed"):
        replay(held.state, [second.id, first.id])
    assert held.journal.pending() == 0
    assert len(list_quarantine(held.state)) == 1


def test_a_refused_snapshot_is_held_whole_and_comes_back_whole(held: Held) -> None:
    quarantine_rows(held.state, held.manifest, held.bad, NOW)
    for _ in range(2):
        quarantine_snapshot(held.state, held.manifest, ["bad rows: found 2 of 3"], NOW)
    assert find_snapshot(held.state, held.manifest.snapshot_id)[1] == "quarantined"
    (whole,) = [entry for entry in list_quarantine(held.state) if entry.event is None]
    assert (whole.reasons, whole.event_id) == (["bad rows: found 2 of 3"], None)
    with pytest.raises(StateError, match="is quarantined, expected closed"), held.state.write() as conn:
        mark_learned(conn, held.manifest.snapshot_id)
    assert replay(held.state, [whole.id]) == Replayed(1, 3)
    assert list_quarantine(held.state) == [], "its rows went with it"
    assert held.next_snapshot() == ["e00001", "e00002", "e00003"]
    assert find_snapshot(held.state, held.manifest.snapshot_id)[1] == "quarantined", "the old one stays refused"


def test_rows_and_their_snapshot_can_be_replayed_in_one_go(held: Held) -> None:
    quarantine_rows(held.state, held.manifest, held.bad, NOW)
    quarantine_snapshot(held.state, held.manifest, ["why"], NOW)
    assert replay(held.state, [entry.id for entry in list_quarantine(held.state)]) == Replayed(3, 3)
    assert held.journal.pending() == 3


def test_a_waived_row_is_settled_and_does_not_come_back(held: Held) -> None:
    quarantine_rows(held.state, held.manifest, held.bad, NOW)
    quarantine_snapshot(held.state, held.manifest, ["why"], NOW)
    row, _, whole = list_quarantine(held.state)
    assert waive(held.state, [row.id]) == 1
    assert not is_waived(held.state, held.manifest.snapshot_id)
    assert replay(held.state, [whole.id]) == Replayed(1, 2)
    assert held.next_snapshot() == ["e00001", "e00003"]


def test_a_waived_snapshot_may_be_learned_from(held: Held) -> None:
    quarantine_snapshot(held.state, held.manifest, ["volume: found 3"], NOW)
    (whole,) = list_quarantine(held.state)
    waive(held.state, [whole.id])
    assert is_waived(held.state, held.manifest.snapshot_id)
    with held.state.write() as conn:
        mark_learned(conn, held.manifest.snapshot_id)
    with pytest.raises(StateError, match="is learned, expected closed"):
        quarantine_snapshot(held.state, held.manifest, ["too late"], NOW)
    assert held.journal.pending() == 0


def test_what_is_not_there_is_named(held: Held) -> None:
    for settle in (replay, waive):
        with pytest.raises(StateError, match="quarantine entry 99 is not there, expected held"):
            settle(held.state, [99])


def test_only_known_states_fit(held: Held) -> None:
    quarantine_rows(held.state, held.manifest, held.bad, NOW)
    with pytest.raises(sa.exc.IntegrityError), held.state.write() as conn:
        conn.execute(sa.update(table).values(status="lost"))
