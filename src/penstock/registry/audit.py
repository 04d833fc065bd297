"""The audit log: who did what to which version, each entry chained to the one before by its hash.

hash(n) = sha256(hash(n-1) + canonical JSON of entry n). Altering, removing or inserting an entry breaks every
hash after it. Cutting entries off the end leaves a chain that is whole, so the newest hash is also kept outside
(an anchor, see Registry.audit_anchor) and verify() asks for it.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.data.state import State
from penstock.registry.tables import audit, from_micros, to_micros

GENESIS = "0" * 64
ERASE = "erase"
NEWS = sa.select(sa.func.max(audit.c.seq), sa.func.max(sa.case((audit.c.action == ERASE, audit.c.seq)))).where(
    audit.c.seq > sa.bindparam("since")
)


@dataclass(frozen=True)
class AuditEntry:
    """One entry. `subject`: what it was done to, as version:3 or snapshot:<id>."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Anchor:
    """An entry's place and hash, kept outside the log."""

    seq: int
    hash: str


@dataclass(frozen=True)
class AuditVerdict:
    """Whether the log is whole. `broken_at`: the first entry that does not fit; `reason` says why."""

    ok: bool
    entries: int
    broken_at: int | None
    reason: str


class Erasures:
    """Which user was erased last, asked twice a second: no entry is looked at twice, however long the log is."""

    def __init__(self, state: State) -> None:
        self._state, self._seen, self._last = state, 0, 0
        self._reading = threading.Lock()

    def last(self) -> int:
        """The number of the last entry of an erased user, 0 where none was erased."""
        with self._reading, self._state.read() as conn:
            seen, last = conn.execute(NEWS, {"since": self._seen}).one()
            self._last = last or self._last
            self._seen = seen or self._seen
            return self._last


def append(
    conn: sa.Connection,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    now: datetime,
) -> Anchor:
    """Add an entry inside the caller's write transaction, so it exists exactly when what it tells of does."""
    last = conn.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    row = {
        "seq": 1 if last is None else last.seq + 1,
        "at": to_micros(now),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": json.dumps(details, sort_keys=True, allow_nan=False),
    }
    previous = GENESIS if last is None else last.hash
    digest = _hash(previous, row)
    conn.execute(sa.insert(audit).values(**row, previous_hash=previous, hash=digest))
    return Anchor(int(row["seq"]), digest)


def entries(state: State, subject: str | None = None, limit: int = 1000) -> list[AuditEntry]:
    """The newest `limit` entries, oldest first; only those about `subject` where it is given."""
    query = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    with state.read() as conn:
        rows = conn.execute(query).all()
    return [
        AuditEntry(r.seq, from_micros(r.at), r.actor, r.action, r.subject, json.loads(r.details), r.hash)
        for r in reversed(rows)
    ]


def head(state: State) -> Anchor | None:
    """The newest entry's place and hash, None for an empty log."""
    with state.read() as conn:
        row = conn.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else Anchor(row.seq, row.hash)


def verify(state: State, anchor: Anchor | None = None) -> AuditVerdict:
    """Recompute the chain from its start.

    Args:
        anchor: an entry known from outside; the log must still hold it with that hash.
    """
    previous, count, anchored = GENESIS, 0, anchor is None
    with state.read() as conn:
        for row in conn.execute(sa.select(audit).order_by(audit.c.seq)).mappings():
            count += 1
            if row["seq"] != count:
                return AuditVerdict(False, count - 1, count, f"entry {count} is missing, entry {row['seq']} follows")
            if row["previous_hash"] != previous:
                return AuditVerdict(False, count - 1, count, f"entry {count} is not chained to entry {count - 1}")
            if _hash(previous, row) != row["hash"]:
                return AuditVerdict(False, count - 1, count, f"entry {count} was altered: its hash does not fit it")
            previous = row["hash"]
            anchored = anchored or (anchor is not None and anchor == Anchor(count, previous))
    if not anchored and anchor is not None:
        reason = (
            f"entry {anchor.seq} is known from outside with hash {anchor.hash[:12]}, the log has "
            f"{'no such entry' if anchor.seq > count else 'another one'} ({count} entries): it was cut or rewritten"
        )
        return AuditVerdict(False, count, min(anchor.seq, count + 1), reason)
    return AuditVerdict(True, count, None, f"{count} entries, every hash fits")


def _hash(previous: str, row: Mapping[Any, Any]) -> str:
    content = {name: row[name] for name in ("seq", "at", "actor", "action", "subject", "details")}
    return hashlib.sha256((previous + json.dumps(content, sort_keys=True)).encode()).hexdigest()
