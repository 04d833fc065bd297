"""Quarantine: what failed validation is kept with its reasons, and can go back into the journal after a fix.

A row in quarantine belongs to its snapshot and is not learned from. Replaying makes it pending again, so the next
snapshot holds it, as a late event; waiving settles it without learning. A refused snapshot is one entry without an
event: replaying makes all its events pending again, waiving lets it be learned from as it is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl
import sqlalchemy as sa

from penstock.data.snapshot import manifest_row, save_manifest, set_status
from penstock.data.state import State, from_micros, to_micros
from penstock.data.state import events as events_table
from penstock.data.state import quarantine as table
from penstock.errors import StateError
from penstock.records import SnapshotManifest, plain_json

Status = Literal["held", "replayed", "waived"]
Note = Callable[[sa.Connection, list["Quarantined"], dict[str, Any]], None]
"""Called in the transaction that settles entries, with these and what came of it."""


@dataclass(frozen=True)
class Quarantined:
    """One entry. `event`: the row, times as ISO-8601; None where the entry is the whole snapshot."""

    id: int
    snapshot_id: str
    event_id: str | None
    event: dict[str, Any] | None
    reasons: list[str]
    created_at: datetime
    status: Status


@dataclass(frozen=True)
class Replayed:
    """What a replay did. `released`: events that are pending again."""

    entries: int
    released: int


@dataclass(frozen=True)
class BrokenRule:
    """A rule, how many rows broke it, and some of them, each with what was found."""

    name: str
    rows: int
    samples: list[tuple[Quarantined, str]]


def by_rule(entries: list[Quarantined], samples: int) -> list[BrokenRule]:
    """Rows by the rule they broke, the most broken first."""
    found: dict[str, list[tuple[Quarantined, str]]] = {}
    for entry in entries:
        for reason in entry.reasons if entry.event is not None else []:
            found.setdefault(reason.split(":")[0], []).append((entry, reason))
    rules = [BrokenRule(name, len(rows), rows[:samples]) for name, rows in found.items()]
    return sorted(rules, key=lambda rule: (-rule.rows, rule.name))


def quarantine_rows(
    state: State, manifest: SnapshotManifest, bad: pl.DataFrame, now: datetime | None = None
) -> SnapshotManifest:
    """Hold a snapshot's bad rows; doing it again for the same snapshot changes nothing.

    Args:
        bad: `Validation.bad`: the events with a column `reasons`.

    Returns:
        The manifest with `quarantined_rows` set, as it now stands in the state database.

    Raises:
        StateError: the snapshot is unknown.
    """
    created_at = to_micros(now or datetime.now(UTC))
    with state.write() as conn:
        stored, _ = manifest_row(conn, manifest.snapshot_id)
        is_row = (table.c.snapshot_id == manifest.snapshot_id) & table.c.event.is_not(None)
        held = conn.execute(sa.select(sa.func.count()).select_from(table).where(is_row)).scalar_one()
        if held or bad.is_empty():
            return stored
        conn.execute(sa.insert(table), [_entry(row, manifest.snapshot_id, created_at) for row in bad.to_dicts()])
        updated = replace(stored, quarantined_rows=len(bad))
        save_manifest(conn, updated)
    return updated


def quarantine_snapshot(
    state: State, manifest: SnapshotManifest, reasons: list[str], now: datetime | None = None
) -> None:
    """Hold a whole snapshot; doing it again changes nothing.

    Raises:
        StateError: the snapshot is unknown, or was learned from.
    """
    with state.write() as conn:
        _, status = manifest_row(conn, manifest.snapshot_id)
        if status == "quarantined":
            return
        set_status(conn, manifest.snapshot_id, "quarantined", ("closed",))
        conn.execute(
            sa.insert(table).values(
                snapshot_id=manifest.snapshot_id,
                reasons=json.dumps(reasons),
                created_at=to_micros(now or datetime.now(UTC)),
                status="held",
            )
        )


def list_quarantine(state: State, status: Status | None = "held", snapshot_id: str | None = None) -> list[Quarantined]:
    """Entries, oldest first; of one status and one snapshot where these are given."""
    query = sa.select(table).order_by(table.c.id)
    if status is not None:
        query = query.where(table.c.status == status)
    if snapshot_id is not None:
        query = query.where(table.c.snapshot_id == snapshot_id)
    with state.read() as conn:
        return [_quarantined(row) for row in conn.execute(query)]


def replay(state: State, ids: list[int], note: Note | None = None) -> Replayed:
    """Make what these entries hold pending again, after a fix of the catalogue, the settings or the code.

    Args:
        note: writes down, in the same transaction, who did it and why.

    Raises:
        StateError: an entry is unknown or not held; nothing is released then.
    """
    with state.write() as conn:
        entries = held_entries(conn, ids)
        released = sum(release(conn, entry) for entry in entries)
        if note is not None:
            note(conn, entries, {"released": released})
    return Replayed(len(entries), released)


def waive(state: State, ids: list[int], note: Note | None = None) -> int:
    """Settle entries without replaying them; a refused snapshot is then learned from as it is.

    Args:
        note: writes down, in the same transaction, who did it and why.

    Raises:
        StateError: an entry is unknown or not held; nothing is settled then.
    """
    with state.write() as conn:
        entries = held_entries(conn, ids)
        for entry in entries:
            _settle(conn, table.c.id == entry.id, "waived")
            if entry.event is None:
                set_status(conn, entry.snapshot_id, "closed", ("quarantined",))
        if note is not None:
            note(conn, entries, {})
    return len(entries)


def release(conn: sa.Connection, entry: Quarantined) -> int:
    """Make what an entry holds pending again, in the caller's transaction; how many events that are."""
    mine = released_by(entry)
    which = table.c.id == entry.id
    if entry.event is None:
        which = (table.c.snapshot_id == entry.snapshot_id) & (table.c.status == "held")
    _settle(conn, which, "replayed")
    return int(conn.execute(sa.update(events_table).where(mine).values(snapshot_id=None)).rowcount)


def released_by(entry: Quarantined) -> sa.ColumnElement[bool]:
    """The events that replaying an entry makes pending: its row, or what of its snapshot nobody waived."""
    mine = events_table.c.snapshot_id == entry.snapshot_id
    if entry.event is not None:
        return mine & (events_table.c.event_id == entry.event_id)
    waived = sa.select(table.c.event_id).where(
        table.c.snapshot_id == entry.snapshot_id, table.c.event_id.is_not(None), table.c.status == "waived"
    )
    return mine & events_table.c.event_id.not_in(waived)


def is_waived(state: State, snapshot_id: str) -> bool:
    """True when somebody let a refused snapshot through; its bad rows still are not learned from."""
    return any(entry.event is None for entry in list_quarantine(state, "waived", snapshot_id))


def held_entries(conn: sa.Connection, ids: list[int]) -> list[Quarantined]:
    """The entries of these ids, whole snapshots first, so that their rows count as settled with them.

    Raises:
        StateError: an entry is unknown or not held.
    """
    found = {row.id: _quarantined(row) for row in conn.execute(sa.select(table).where(table.c.id.in_(ids)))}
    for number in ids:
        if number not in found or found[number].status != "held":
            status = found[number].status if number in found else "not there"
            raise StateError(
                f"quarantine entry {number} is {status}, expected held; nothing was changed; list what is held first"
            )
    return sorted(found.values(), key=lambda entry: entry.event is not None)


def _settle(conn: sa.Connection, which: sa.ColumnElement[bool], status: Status) -> None:
    conn.execute(sa.update(table).where(which).values(status=status))


def of_refused(whole: Quarantined, bad: pl.DataFrame) -> list[Quarantined]:
    """Bad rows of a refused snapshot (`quarantine_rows` says how they look) as if each were an entry, under the number
    of the snapshot's own."""
    split = [_split(row) for row in bad.to_dicts()]
    return [replace(whole, event_id=event["event_id"], event=event, reasons=reasons) for event, reasons in split]


def _split(row: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    event: dict[str, Any] = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()
    }
    reasons: list[str] = event.pop("reasons")
    return plain_json(event), reasons


def _entry(row: dict[str, Any], snapshot_id: str, created_at: int) -> dict[str, Any]:
    event, reasons = _split(row)
    return {
        "snapshot_id": snapshot_id,
        "event_id": row["event_id"],
        "event": json.dumps(event),
        "reasons": json.dumps(reasons),
        "created_at": created_at,
        "status": "held",
    }


def _quarantined(row: sa.Row[Any]) -> Quarantined:
    event = None if row.event is None else json.loads(row.event)
    created_at = from_micros(row.created_at)
    return Quarantined(row.id, row.snapshot_id, row.event_id, event, json.loads(row.reasons), created_at, row.status)
