"""What the console's first page shows beside the status: freshness against its objective, and quality by round."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, Field

from penstock.data.state import State, events, from_micros, rounds, snapshots, to_micros
from penstock.registry.ledger import Promotion, read_ledger
from penstock.registry.tables import promotions
from penstock.settings import Settings

MEASURES = {"rank": ("ndcg@10", "NDCG@10"), "classify": ("accuracy", "accuracy")}
SHOWN_ROUNDS = 60


class Step(BaseModel):
    """One part of the way from an event to a model that learned from it."""

    name: str
    seconds: float


class Freshness(BaseModel):
    """`last_s`: mean of the last promoted round, accepted to serving, in `steps`; `waiting_s`: how long the oldest
    event has waited that no snapshot holds yet; None where there is none."""

    objective_s: float
    last_s: float | None
    waiting_s: float | None
    steps: list[Step]


class Measured(BaseModel):
    """One judged round. `fresh`: the version that learned from it; `stale`: the one that served meanwhile, both on the
    same newest requests, which neither had learned from. Intervals are of the mean over users."""

    round_id: str
    at: str
    version: str
    outcome: str | None
    requests: int
    fresh: float | None
    fresh_low: float | None = None
    fresh_high: float | None = None
    stale: float | None


class Marker(BaseModel):
    """A change of the champion."""

    at: str
    version: str
    kind: str


class Loop(BaseModel):
    """The figures of the first page."""

    freshness: Freshness
    metric: str = Field(description="what `curve` measures")
    curve: list[Measured]
    markers: list[Marker]
    stages: list[Step] = Field(description="seconds of the newest round that ran through, by stage")


def loop_figures(state: State, registry: Any, settings: Settings, now: datetime) -> Loop:
    """Everything from the state database and the kept gate reports; nothing is computed from events anew."""
    with state.read() as conn:
        ledger = read_ledger(conn, settings.registry.environment)
        freshness = _freshness(conn, settings, now)
        rows = conn.execute(
            sa.select(rounds)
            .where(rounds.c.version.is_not(None))
            .order_by(sa.func.coalesce(rounds.c.ended_at, rounds.c.started_at).desc())
            .limit(SHOWN_ROUNDS)
        ).all()
    key, label = MEASURES[settings.task]
    known = {version.number: version for version in registry.versions()} if rows else {}
    curve = [_measured(row, registry, known.get(row.version), key) for row in reversed(rows)]
    return Loop(
        freshness=freshness,
        metric=label,
        curve=curve,
        markers=[_marker(promotion) for promotion in ledger.promotions[-SHOWN_ROUNDS:]],
        stages=_stages(next((row.result for row in rows if row.result), None)),
    )


def _measured(row: Any, registry: Any, version: Any, key: str) -> Measured:
    report = registry.gate_report(version) if version is not None else None
    means: dict[str, Any] = (report.extra.get("means") or {}) if report is not None else {}
    fresh = (means.get("challenger") or {}).get(key) or {}
    stale = (means.get("champion") or {}).get(key) or {}
    return Measured(
        round_id=row.round_id,
        at=from_micros(row.ended_at or row.started_at).isoformat(),
        version=row.version,
        outcome=row.outcome,
        requests=report.requests if report is not None else 0,
        fresh=fresh.get("mean"),
        fresh_low=fresh.get("low"),
        fresh_high=fresh.get("high"),
        stale=stale.get("mean"),
    )


def _marker(promotion: Promotion) -> Marker:
    return Marker(at=promotion.at.isoformat(), version=promotion.number, kind=promotion.kind)


def _stages(result: str | None) -> list[Step]:
    seconds = json.loads(result).get("stages_s", {}) if result else {}
    return [Step(name=name, seconds=value) for name, value in seconds.items()]


def _freshness(conn: sa.Connection, settings: Settings, now: datetime) -> Freshness:
    oldest = conn.execute(
        sa.select(sa.func.min(events.c.received_at)).where(events.c.snapshot_id.is_(None))
    ).scalar_one_or_none()
    steps = _steps(conn, settings.registry.environment)
    return Freshness(
        objective_s=settings.schedule.freshness_objective_minutes * 60,
        last_s=sum(step.seconds for step in steps) if steps else None,
        waiting_s=None if oldest is None else max(0.0, (to_micros(now) - oldest) / 1e6),
        steps=steps,
    )


def _steps(conn: sa.Connection, environment: str) -> list[Step]:
    """The last promoted round's way, from its events' mean acceptance on."""
    row = conn.execute(
        sa.select(rounds.c.snapshot_id, rounds.c.started_at, rounds.c.ended_at, promotions.c.at, snapshots.c.created_at)
        .join(promotions, promotions.c.number == rounds.c.version)
        .join(snapshots, snapshots.c.snapshot_id == rounds.c.snapshot_id)
        .where(promotions.c.environment == environment, promotions.c.kind == "promote")
        .order_by(promotions.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return []
    accepted = conn.execute(
        sa.select(sa.func.avg(events.c.received_at)).where(events.c.snapshot_id == row.snapshot_id)
    ).scalar_one_or_none()
    if accepted is None:
        return []
    learned = min(row.ended_at or row.at, row.at)
    marks = [float(accepted), row.created_at, row.started_at, learned, row.at]
    names = (
        "gathered in the journal",
        "waited for a round, validated",
        "learned, exported, judged",
        "waited for a decision",
    )
    return [
        Step(name=name, seconds=round(max(0.0, (end - begin) / 1e6), 3))
        for name, begin, end in zip(names, marks, marks[1:], strict=False)
    ]
