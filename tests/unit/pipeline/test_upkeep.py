"""A round is interrupted when it says it runs and nobody holds the lease."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.data import leases
from penstock.data.state import State, open_state, rounds, snapshots, to_micros
from penstock.pipeline.upkeep import interrupted_rounds, round_is_running

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state database with one round that runs and one that is done."""
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    state.ensure()
    with state.write() as conn:
        for number, status in ((1, "done"), (2, "running")):
            at = to_micros(NOW - timedelta(minutes=10 * number))
            row = {"snapshot_id": f"s{number}", "status": "closed", "manifest": "{}"}
            conn.execute(sa.insert(snapshots).values(**row, window_end=at, created_at=at))
            conn.execute(
                sa.insert(rounds).values(round_id=f"r{number}", snapshot_id=f"s{number}", status=status, started_at=at)
            )
    yield state
    state.engine.dispose()


def test_a_round_whose_worker_holds_the_lease_is_running(state: State) -> None:
    leases.acquire(state, "round", "worker-1", 120, NOW)
    assert round_is_running(state, NOW)
    assert interrupted_rounds(state, NOW) == []


def test_a_round_whose_lease_ran_out_was_interrupted(state: State) -> None:
    leases.acquire(state, "round", "worker-1", 120, NOW)
    found = interrupted_rounds(state, NOW + timedelta(seconds=121))
    assert len(found) == 1
    assert "round r2 of snapshot s2, begun 2026-03-01 11:40 UTC, was interrupted" in found[0]


def test_a_released_lease_is_not_running(state: State) -> None:
    leases.release(state, leases.acquire(state, "round", "worker-1", 120, NOW))
    assert not round_is_running(state, NOW)
