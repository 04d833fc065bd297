"""A round's row in the state database, and the lease that lets only one worker write it."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.data import leases
from penstock.data.snapshot import list_snapshots, mark_learned
from penstock.data.state import State, open_state, rounds, to_micros
from penstock.errors import LeaseLost
from penstock.pipeline.upkeep import ROUND_LEASE
from penstock.records import RoundResult, SnapshotManifest
from penstock.settings import Settings

_HELD: dict[str, leases.Lease] = {}
"""The lease of rounds that this process holds, by state URL: what a round writes is checked against it."""


def opened(settings: Settings) -> State:
    """The state database with its tables."""
    state = open_state(settings.state.url)
    state.ensure()
    return state


@contextmanager
def round_lease(settings: Settings) -> Iterator[leases.Lease]:
    """Hold the lease of rounds, renewed in the background for as long as the round takes; never two at once.

    Raises:
        LeaseHeld: another round is running.
    """
    state, url = opened(settings), settings.state.url
    holder = f"{socket.gethostname()}:{os.getpid()}"
    lease = leases.acquire(state, ROUND_LEASE, holder, settings.state.lease_s, datetime.now(UTC))
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(state, lease, settings.state.lease_s, done), daemon=True)
    _HELD[url] = lease
    heart.start()
    try:
        yield lease
    finally:
        done.set()
        heart.join()
        del _HELD[url]
        leases.release(state, lease)


def _beat(state: State, lease: leases.Lease, ttl_s: float, done: threading.Event) -> None:
    while not done.wait(ttl_s / 3):
        try:
            leases.renew(state, lease, ttl_s, datetime.now(UTC))
        except LeaseLost:
            return  # the round finds out when it writes: see `record`


def begin(state: State, round_id: str, manifest: SnapshotManifest) -> None:
    """Note that a round runs; an interrupted one keeps the time it first began, one that had ended begins anew."""
    now = to_micros(datetime.now(UTC))
    mine = rounds.c.round_id == round_id
    with state.write() as conn:
        found = conn.execute(sa.select(rounds.c.status).where(mine)).scalar_one_or_none()
        if found == "done":  # its snapshot was let through after all, or is learned again after an erasure
            conn.execute(sa.update(rounds).where(mine).values(status="running", started_at=now, ended_at=None))
        elif found is None:
            values = {"round_id": round_id, "snapshot_id": manifest.snapshot_id, "status": "running"}
            conn.execute(sa.insert(rounds).values(**values, started_at=now))


def record(settings: Settings, state: State, result: RoundResult, learned: bool) -> None:
    """Note how a round ended and, in the same transaction, that its snapshot is not learned from again.

    Raises:
        LeaseLost: this worker held the lease of rounds and lost it; nothing is written.
        StateError: the snapshot was learned from by another round.
    """
    now = to_micros(datetime.now(UTC))
    values = {
        "status": "done",
        "outcome": result.outcome,
        "version": result.version,
        "bundle_digest": result.bundle_digest,
        "result": json.dumps(asdict(result)),
        "ended_at": now,
    }
    with state.write() as conn:
        check_lease(settings, conn)
        if learned:
            mark_learned(conn, result.snapshot_id)
        done = conn.execute(sa.update(rounds).where(rounds.c.round_id == result.round_id).values(**values))
        if done.rowcount == 0:
            keys = {"round_id": result.round_id, "snapshot_id": result.snapshot_id, "started_at": now}
            conn.execute(sa.insert(rounds).values(**keys, **values))


def check_lease(settings: Settings, conn: sa.Connection) -> None:
    """Make sure that this worker still holds the lease of rounds it took, inside the transaction that writes.

    Raises:
        LeaseLost: it took the lease and lost it.
    """
    lease = _HELD.get(settings.state.url)
    if lease is not None:
        leases.check(conn, lease)


def newest_kept_round(state: State) -> str | None:
    """The last round whose checkpoint the next one starts from: one that was neither refused nor failed."""
    query = sa.select(rounds.c.round_id).where(rounds.c.outcome.in_(("waiting", "promoted")))
    with state.read() as conn:
        return conn.execute(query.order_by(rounds.c.ended_at.desc()).limit(1)).scalar_one_or_none()


def missed_snapshots(state: State, manifest: SnapshotManifest, taken_in: list[str]) -> list[SnapshotManifest]:
    """Learned snapshots that this checkpoint has not taken in: those of refused or failed rounds."""
    learned = list_snapshots(state, status="learned")
    return [one for one in learned if one.snapshot_id not in set(taken_in) | {manifest.snapshot_id}]
