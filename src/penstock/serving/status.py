"""The loop at a glance: what serves, how old it is, what waits, what was refused."""

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.data.state import State, events, from_micros, quarantine, rounds, snapshots
from penstock.registry.tables import promotions
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

RECENT = 20


def status(state: State, registry: Any, settings: Settings, now: datetime | None = None) -> dict[str, Any]:
    """The state of the loop as one plain dict.

    Keys: `champion` {version, digest, age_s, since_s, data_sha256, learned_until} or None; `freshness_s`: of the last
    promoted round, the mean time from an event's acceptance to the promotion, and None before one; `rounds`: counts
    by outcome; `recent_rounds`; `snapshots` {accepted, quarantined, by_status}; `events` {pending, total};
    `quarantine`: row counts by status and recent entries; `challengers`: numbers that wait.
    """
    now = now or datetime.now(UTC)
    with state.read() as conn:
        loop = {
            "freshness_s": _freshness_s(conn, settings.registry.environment),
            "rounds": _counted(conn, rounds.c.outcome),
            "recent_rounds": _recent_rounds(conn),
            "snapshots": _snapshots(conn),
            "events": _events(conn),
            "quarantine": _quarantine(conn),
        }
    return {
        "environment": settings.registry.environment,
        "task": settings.task,
        "at": now.isoformat(),
        "champion": _champion(registry, now),
        **loop,
        "challengers": [version.number for version in registry.challengers()],
    }


def service_status(runtime: Runtime) -> dict[str, Any]:
    """What this process serves, its swaps, and why the last one failed."""
    served, failure, now = runtime.served, runtime.failure, runtime.clock()
    loaded: dict[str, Any] = {"version": None, "digest": None, "task": None, "loaded_s": None}
    if served is not None:
        loaded_s = (now - served.loaded_at).total_seconds()
        loaded = {
            "version": served.version,
            "digest": served.digest,
            "task": served.scorer.task,
            "loaded_s": loaded_s,
            "learned_until": served.scorer.learned_until,
            "observed_seq": served.seq,
        }
    return loaded | {
        "swapped": runtime.counts.swapped,
        "failed": runtime.counts.failed,
        "poll_error": runtime.poll_error,
        "failure": None
        if failure is None
        else {
            "version": failure.version,
            "digest": failure.digest,
            "error": failure.error,
            "at": failure.at.isoformat(),
        },
    }


def _champion(registry: Any, now: datetime) -> dict[str, Any] | None:
    version = registry.champion()
    if version is None:
        return None
    since = [promotion.at for promotion in registry.history() if promotion.number == version.number]
    return {
        "version": version.number,
        "digest": version.digest,
        "age_s": (now - version.created_at).total_seconds(),
        "since_s": (now - since[-1]).total_seconds() if since else None,
        "data_sha256": version.lineage.data_sha256,
        "learned_until": version.lineage.learned_until.isoformat(),
    }


def _freshness_s(conn: sa.Connection, environment: str) -> float | None:
    last = conn.execute(
        sa.select(rounds.c.snapshot_id, promotions.c.at)
        .join(promotions, promotions.c.number == rounds.c.version)
        .where(promotions.c.environment == environment, promotions.c.kind == "promote")
        .order_by(promotions.c.id.desc())
        .limit(1)
    ).one_or_none()
    if last is None:
        return None
    received_at = conn.execute(
        sa.select(sa.func.avg(events.c.received_at)).where(events.c.snapshot_id == last.snapshot_id)
    ).scalar_one_or_none()
    return None if received_at is None else round((last.at - float(received_at)) / 1e6, 3)


def _recent_rounds(conn: sa.Connection) -> list[dict[str, Any]]:
    rows = conn.execute(sa.select(rounds).order_by(rounds.c.started_at.desc()).limit(RECENT)).mappings()
    recent = []
    for row in rows:
        result = json.loads(row["result"]) if row["result"] else {}
        recent.append(
            {
                "round_id": row["round_id"],
                "snapshot_id": row["snapshot_id"],
                "status": row["status"],
                "outcome": row["outcome"],
                "version": row["version"],
                "started_at": _iso(row["started_at"]),
                "ended_at": _iso(row["ended_at"]),
                "reason": result.get("reason", ""),
            }
        )
    return recent


def _snapshots(conn: sa.Connection) -> dict[str, Any]:
    by_status = _counted(conn, snapshots.c.status)
    quarantined = by_status.get("quarantined", 0)
    accepted = sum(by_status.values()) - quarantined - by_status.get("open", 0)
    return {"accepted": accepted, "quarantined": quarantined, "by_status": by_status}


def _events(conn: sa.Connection) -> dict[str, int]:
    total = conn.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()
    pending = conn.execute(
        sa.select(sa.func.count()).select_from(events).where(events.c.snapshot_id.is_(None))
    ).scalar_one()
    return {"pending": int(pending), "total": int(total)}


def _quarantine(conn: sa.Connection) -> dict[str, Any]:
    rows = conn.execute(sa.select(quarantine).order_by(quarantine.c.id.desc()).limit(RECENT)).mappings()
    recent = [
        {
            "id": row["id"],
            "snapshot_id": row["snapshot_id"],
            "event": json.loads(row["event"]) if row["event"] else None,
            "reasons": json.loads(row["reasons"]),
            "status": row["status"],
            "at": _iso(row["created_at"]),
        }
        for row in rows
    ]
    return {"by_status": _counted(conn, quarantine.c.status), "recent": recent}


def _counted(conn: sa.Connection, column: sa.Column[Any]) -> dict[str, int]:
    rows = conn.execute(sa.select(column, sa.func.count()).group_by(column)).all()
    return {str(name): int(count) for name, count in rows if name is not None}


def _iso(micros: int | None) -> str | None:
    return None if micros is None else from_micros(micros).isoformat()
