"""What a crash left behind in the state database, for `watch` and `penstock status` to say."""

import json
from datetime import datetime

import sqlalchemy as sa

from penstock.data import leases
from penstock.data.state import State, from_micros, rounds

ROUND_LEASE = "round"


def round_is_running(state: State, now: datetime) -> bool:
    """True while somebody holds the lease of rounds."""
    return leases.current(state, ROUND_LEASE, now) is not None


def interrupted_rounds(state: State, now: datetime) -> list[str]:
    """Rounds that say they run while nobody holds the lease, one line each; the next round takes their snapshots up."""
    if round_is_running(state, now):
        return []
    query = sa.select(rounds.c.round_id, rounds.c.snapshot_id, rounds.c.started_at).where(rounds.c.status == "running")
    with state.read() as conn:
        found = conn.execute(query.order_by(rounds.c.started_at)).all()
    return [
        f"round {row.round_id} of snapshot {row.snapshot_id}, begun {from_micros(row.started_at):%Y-%m-%d %H:%M} UTC, "
        "was interrupted: the next round takes its snapshot up"
        for row in found
    ]


def last_stages(state: State) -> dict[str, float]:
    """Seconds by stage of the newest round that ran through, in order; empty before one."""
    query = sa.select(rounds.c.result).where(rounds.c.version.is_not(None)).order_by(rounds.c.ended_at.desc()).limit(1)
    with state.read() as conn:
        result = conn.execute(query).scalar_one_or_none()
    return dict(json.loads(result)["stages_s"]) if result else {}
