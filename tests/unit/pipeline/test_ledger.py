"""A round's row and its lease: who lost the lease writes nothing."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from core_bench import event, small_settings, table

from penstock.data import leases
from penstock.data.journal import Journal
from penstock.data.snapshot import close_snapshot, find_snapshot
from penstock.data.state import rounds
from penstock.errors import LeaseHeld, LeaseLost, StateError
from penstock.pipeline.ledger import begin, missed_snapshots, newest_kept_round, opened, record, round_lease
from penstock.records import RoundResult, SnapshotManifest
from penstock.settings import Settings

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    return small_settings(tmp_path, **{"validation.min_rows": 1})


@pytest.fixture
def manifest(small: Settings) -> SnapshotManifest:
    state = opened(small)
    Journal(state, small.data).append(table([event(n, n / 10) for n in range(5)]), NOW)
    closed = close_snapshot(state, small, NOW)
    assert closed is not None
    return closed


def result_of(manifest: SnapshotManifest, outcome: str = "waiting") -> RoundResult:
    return RoundResult("r1", manifest.snapshot_id, outcome, "1", "d", "why", {}, {})  # type: ignore[arg-type]


def test_a_round_that_ends_takes_its_snapshot_with_it_once(small: Settings, manifest: SnapshotManifest) -> None:
    state = opened(small)
    begin(state, "r1", manifest)
    begin(state, "r1", manifest)
    assert newest_kept_round(state) is None
    record(small, state, result_of(manifest), learned=True)
    assert find_snapshot(state, manifest.snapshot_id)[1] == "learned"
    assert newest_kept_round(state) == "r1"
    with pytest.raises(StateError, match="is learned, expected closed"):
        record(small, state, replace(result_of(manifest), round_id="r2"), learned=True)
    with state.read() as conn:
        assert conn.execute(sa.select(rounds.c.round_id)).scalars().all() == ["r1"], "both or neither"


def test_a_round_begun_anew_begins_now_an_interrupted_one_keeps_its_time(
    small: Settings, manifest: SnapshotManifest
) -> None:
    state = opened(small)
    times = []
    for done in (False, True, False):
        begin(state, "r1", manifest)
        with state.read() as conn:
            row = conn.execute(sa.select(rounds)).one()
        times.append(row.started_at)
        assert (row.status, row.ended_at) == ("running", None)
        if done:
            record(small, state, result_of(manifest, "quarantined"), learned=False)
    assert times[0] == times[1] < times[2]


def test_snapshots_that_a_checkpoint_missed(small: Settings, manifest: SnapshotManifest) -> None:
    state = opened(small)
    record(small, state, result_of(manifest, "failed"), learned=True)
    other = replace(manifest, snapshot_id="later")
    assert [one.snapshot_id for one in missed_snapshots(state, other, [])] == [manifest.snapshot_id]
    assert missed_snapshots(state, other, [manifest.snapshot_id]) == []
    assert newest_kept_round(state) is None


def test_a_worker_that_lost_its_lease_writes_nothing(small: Settings, manifest: SnapshotManifest) -> None:
    state = opened(small)
    later = datetime.now(UTC) + timedelta(seconds=10 * small.state.lease_s)
    with round_lease(small):
        begin(state, "r1", manifest)
        leases.acquire(state, "round", "another", 60, later)
        with pytest.raises(LeaseLost):
            record(small, state, result_of(manifest), learned=True)
    assert find_snapshot(state, manifest.snapshot_id)[1] == "closed"
    held = leases.current(state, "round", later)
    assert held is not None
    assert held.holder == "another", "and it does not release what is not its own"


def test_the_lease_is_renewed_for_as_long_as_the_round_takes(small: Settings) -> None:
    short = small.override({"state.lease_s": 0.3})
    query = sa.select(leases.table.c.expires_at)
    with round_lease(short):
        until = set()
        deadline_s = time.monotonic() + 60
        while len(until) < 3 and time.monotonic() < deadline_s:
            with opened(short).read() as conn:
                until.add(conn.execute(query).scalar_one())
    assert len(until) == 3, "it was renewed twice"


def test_a_round_that_runs_keeps_another_out_and_one_that_ended_does_not(small: Settings) -> None:
    long = small.override({"state.lease_s": 600})
    with round_lease(long), pytest.raises(LeaseHeld), round_lease(long):
        pass
    with round_lease(long):
        pass
