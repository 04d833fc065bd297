"""How long what serves took from its events' acceptance to serving, stage by stage."""

import json
from datetime import datetime

import sqlalchemy as sa

from penstock.data.state import State, events, rounds, snapshots, to_micros
from penstock.registry.tables import promotions

STAGES = ("closed", "learned", "gated", "promoted", "serving")
"""accepted → snapshot closed → learned → exported and gated → promoted → serving; each is named by its end."""

AFTER_LEARNING = ("export", "gate")


def freshness_stages(state: State, environment: str, number: str, loaded_at: datetime) -> dict[str, float]:
    """Seconds of each stage for the version that serves; they add up to the whole way.

    It starts at the mean acceptance of the snapshot's events. A round's own clock tells when it had learned and
    gated: its start and the seconds of its stages. Empty for a version that no round of this database promoted.
    """
    with state.read() as conn:
        row = conn.execute(
            sa.select(snapshots.c.snapshot_id, snapshots.c.created_at, rounds.c.started_at, rounds.c.result,
                      promotions.c.at)
            .join(rounds, rounds.c.snapshot_id == snapshots.c.snapshot_id)
            .join(promotions, promotions.c.number == rounds.c.version)
            .where(promotions.c.environment == environment, promotions.c.number == number)
            .order_by(promotions.c.id.desc())
            .limit(1)
        ).one_or_none()  # fmt: skip
        if row is None or row.result is None:
            return {}
        accepted = conn.execute(
            sa.select(sa.func.avg(events.c.received_at)).where(events.c.snapshot_id == row.snapshot_id)
        ).scalar_one_or_none()
    if accepted is None:
        return {}
    took_s: dict[str, float] = json.loads(row.result)["stages_s"]
    learned = row.started_at + 1e6 * sum(s for name, s in took_s.items() if name not in AFTER_LEARNING)
    gated = row.started_at + 1e6 * sum(took_s.values())
    moments = (float(accepted), row.created_at, learned, gated, row.at, to_micros(loaded_at))
    return {name: (moments[place + 1] - moments[place]) / 1e6 for place, name in enumerate(STAGES)}
