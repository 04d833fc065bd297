"""Quarantine settled by a named person: what is done and its audit entry stand in one transaction."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.data import corrections, quarantine
from penstock.data.corrections import Corrected, Correction
from penstock.data.quarantine import Quarantined, Replayed
from penstock.data.state import State
from penstock.errors import StateError
from penstock.registry.audit import append
from penstock.settings import DataSettings

LISTED = 50
"""Entries that an audit entry names one by one; beyond it says how many."""


@dataclass(frozen=True)
class By:
    """Who settles, and why.

    Raises:
        StateError: one of them is empty.
    """

    actor: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("actor", "reason"):
            if not getattr(self, name).strip():
                raise StateError(f"{name} is empty; a person and a reason stand behind what becomes of quarantine")


def replay(state: State, ids: list[int], by: By, now: datetime | None = None) -> Replayed:
    """`quarantine.replay`, audited.

    Raises:
        StateError: see there.
    """
    return quarantine.replay(state, ids, _note("quarantine replay", by, {}, now))


def waive(state: State, ids: list[int], by: By, now: datetime | None = None) -> int:
    """`quarantine.waive`, audited.

    Raises:
        StateError: see there.
    """
    return quarantine.waive(state, ids, _note("quarantine waive", by, {}, now))


def fix(
    state: State,
    settings: DataSettings,
    ids: list[int],
    correction: Correction,
    how: Mapping[str, Any],
    by: By,
    now: datetime | None = None,
) -> Corrected:
    """`corrections.correct`, audited; `how` says what the correction was.

    Raises:
        StateError, DataError, SchemaError: see there.
    """
    return corrections.correct(state, settings, ids, correction, _note("quarantine fix", by, how, now))


def _note(action: str, by: By, how: Mapping[str, Any], now: datetime | None) -> quarantine.Note:
    def write(conn: sa.Connection, entries: list[Quarantined], outcome: dict[str, Any]) -> None:
        by_snapshot = Counter(entry.snapshot_id for entry in entries)
        for snapshot_id, count in sorted(by_snapshot.items()):
            mine = [entry.id for entry in entries if entry.snapshot_id == snapshot_id]
            details = {"reason": by.reason, "entries": mine[:LISTED], "count": count, **how, **outcome}
            append(conn, by.actor, action, f"snapshot:{snapshot_id}", details, now or datetime.now(UTC))

    return write
