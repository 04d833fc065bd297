"""Rollouts: a challenger answers a share of the users, in the dark or for real, before it may serve everybody.

shadow: the challenger ranks what the champion answers, nobody sees it. canary: it answers its users, and stops itself
when they choose less or it fails more. ab: it answers its users until a person stops it; only errors end it early.
One rollout at a time in an environment; the last row of `rollouts` without an end is the one that runs, so every
replica and a restarted service go on with the same. Start and end stand in the audit log.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from penstock.data.state import METADATA, SEQUENCE, State, events
from penstock.errors import RegistryError
from penstock.registry.audit import append
from penstock.registry.store import Registry
from penstock.registry.tables import from_micros, to_micros

Mode = Literal["shadow", "canary", "ab"]
MODES: tuple[Mode, ...] = ("shadow", "canary", "ab")
ACTOR = "rollout"
BUCKETS = 2**32

rollouts = sa.Table(
    "rollouts",
    METADATA,
    sa.Column("id", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("environment", sa.Text, nullable=False, index=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("champion", sa.Text, nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("since_seq", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("ended_why", sa.Text),
    sa.CheckConstraint("mode IN ('shadow', 'canary', 'ab')", name="rollouts_mode"),
    sqlite_autoincrement=True,
)
"""`since_seq`: the journal's last entry at the start; clicks of the rollout come after it."""

exposures = sa.Table(
    "exposures",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("arm", sa.Text, primary_key=True),
    sa.Column("rollout_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("elapsed_us", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("items", sa.Text, nullable=False),
    sa.CheckConstraint("arm IN ('champion', 'challenger', 'shadow')", name="exposures_arm"),
)
"""One row for each answer to a user of the rollout; `items`: JSON, [item_id, propensity] by place."""


@dataclass(frozen=True)
class Rollout:
    """One rollout. `share` of users in (0, 1]; `champion`: who served at its start."""

    id: int
    environment: str
    mode: Mode
    number: str
    digest: str
    folder: str
    champion: str
    share: float
    since_seq: int
    started_at: datetime
    ended_at: datetime | None
    ended_why: str | None

    def takes(self, user_id: str) -> bool:
        """Whether a user is in the challenger's share: always the same answer, in every process."""
        text = f"{self.id}:{self.digest}:{user_id}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") < self.share * BUCKETS


@dataclass(frozen=True)
class Exposure:
    """One answer of one arm."""

    request_id: str
    arm: Literal["champion", "challenger", "shadow"]
    user_id: str
    at: datetime
    elapsed_s: float
    failed: bool
    items: tuple[tuple[str, float | None], ...]


def start(
    registry: Registry, state: State, number: str, mode: Mode, share: float, actor: str, reason: str, now: datetime
) -> Rollout:
    """Begin a rollout.

    Raises:
        RegistryError: one runs already, nothing serves, the version serves itself, or it may not be shown to users.
    """
    if not 0 < share <= 1:
        raise RegistryError(f"rollout: a share of {share:g}, expected more than 0 and at most 1")
    state.ensure()
    version, pointer = registry.version(number), registry.champion_pointer()
    if pointer is None:
        raise RegistryError("rollout: nothing serves yet, so there is nothing to compare with; promote a version first")
    if version.digest == pointer.digest:
        raise RegistryError(f"rollout: version {number} serves already; name a challenger (`penstock versions`)")
    if mode != "shadow" and version.status != "challenger":
        raise RegistryError(
            f"rollout: version {number} is {version.status}, and only a challenger that passed its gates is shown to "
            "users; a shadow may be any version"
        )
    folder = registry.bundle_dir(version)
    if not folder.is_dir():
        raise RegistryError(
            f"rollout: the bundle of version {number} is not kept any more (registry.keep_served, keep_unserved); name "
            "another version"
        )
    row = {
        "environment": registry.environment, "mode": mode, "number": number, "digest": version.digest,
        "folder": str(folder), "champion": pointer.number, "share": share,
        "started_at": to_micros(now),
    }  # fmt: skip
    with state.write() as conn:
        running = _running(conn, registry.environment)
        if running is not None:
            raise RegistryError(
                f"rollout: a {running.mode} of version {running.number} runs since {running.started_at.isoformat()}; "
                "end it with `penstock rollout stop`"
            )
        last = conn.execute(sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0))).scalar_one()
        conn.execute(sa.insert(rollouts).values(**row, since_seq=last))
        append(conn, actor, "rollout-start", f"version:{number}", {"mode": mode, "share": share, "reason": reason}, now)
        begun = _running(conn, registry.environment)
    assert begun is not None
    return begun


def stop(state: State, environment: str, actor: str, why: str, now: datetime, only: int | None = None) -> Rollout:
    """End the rollout that runs.

    Args:
        only: its id; nothing else is ended.

    Raises:
        RegistryError: none runs, or another one.
    """
    state.ensure()
    with state.write() as conn:
        running = _running(conn, environment)
        if running is None or only not in (None, running.id):
            raise RegistryError(f"rollout: none{' of that id' if only else ''} runs in environment {environment}")
        mine = rollouts.c.id == running.id
        conn.execute(sa.update(rollouts).where(mine).values(ended_at=to_micros(now), ended_why=why))
        append(conn, actor, "rollout-stop", f"version:{running.number}", {"mode": running.mode, "why": why}, now)
    return running


def running(state: State, environment: str) -> Rollout | None:
    """The rollout that runs, None without one."""
    with state.read() as conn:
        return _running(conn, environment)


def latest(state: State, environment: str) -> Rollout | None:
    """The newest rollout, ended or not."""
    state.ensure()
    query = sa.select(rollouts).where(rollouts.c.environment == environment).order_by(rollouts.c.id.desc()).limit(1)
    with state.read() as conn:
        row = conn.execute(query).mappings().one_or_none()
    return None if row is None else _rollout(row)


def record(state: State, rollout_id: int, exposed: Sequence[Exposure]) -> None:
    """Keep what was answered."""
    rows = [
        {
            "request_id": one.request_id, "arm": one.arm, "rollout_id": rollout_id, "user_id": one.user_id,
            "at": to_micros(one.at), "elapsed_us": round(one.elapsed_s * 1e6), "failed": one.failed,
            "items": json.dumps(one.items),
        }
        for one in exposed
    ]  # fmt: skip
    if rows:
        with state.write() as conn:
            conn.execute(sa.insert(exposures), rows)


def drop_earlier(state: State, environment: str) -> int:
    """Delete some of the answers of rollouts before the last one, of which nobody can ask any more; how many.

    Some at a time, because events wait for whoever writes.
    """
    with state.read() as conn:
        if conn.execute(EARLIER, {"of": environment, "some": 1}).scalar_one_or_none() is None:
            return 0
    with state.write() as conn:
        gone = conn.execute(EARLIER, {"of": environment, "some": DROPPED}).scalars().all()
        return conn.execute(sa.delete(exposures).where(exposures.c.request_id.in_(gone))).rowcount


DROPPED = 2_000
_last = sa.select(sa.func.max(rollouts.c.id)).where(rollouts.c.environment == sa.bindparam("of")).scalar_subquery()
EARLIER = (
    sa.select(exposures.c.request_id)
    .join(rollouts, rollouts.c.id == exposures.c.rollout_id)
    .where((rollouts.c.environment == sa.bindparam("of")) & (rollouts.c.id < _last))
    .limit(sa.bindparam("some"))
)
RUNNING = (
    sa.select(rollouts)
    .where((rollouts.c.environment == sa.bindparam("of")) & rollouts.c.ended_at.is_(None))
    .order_by(rollouts.c.id.desc())
    .limit(1)
)
"""Made once, and asked for every half second."""


def _running(conn: sa.Connection, environment: str) -> Rollout | None:
    row = conn.execute(RUNNING, {"of": environment}).mappings().one_or_none()
    return None if row is None else _rollout(row)


def _rollout(row: Mapping[Any, Any]) -> Rollout:
    values = {name: row[name] for name in Rollout.__dataclass_fields__}
    for name in ("started_at", "ended_at"):
        values[name] = None if row[name] is None else from_micros(row[name])
    return Rollout(**values)
