"""The loop's history for the console: every promotion, rollback, decision and refusal, with who and why."""

import json
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from penstock.data.state import State, from_micros, rounds
from penstock.registry.audit import AuditEntry, entries, verify

STOPPED = ("quarantined", "failed")
DECIDED = ("actor", "reason", "previous", "approver", "decision", "champion_number", "requester", "number", "kind",
           "error", "gate_verdict", "gate_refusals", "digest", "repairs", "entries", "count", "released", "role",
           "mode", "share")  # fmt: skip
WORDS = ("reason", "error", "why")
"""Where the audit log's actions keep why they were done."""


class Happening(BaseModel):
    """One entry, newest first in the list.

    kind: promote, rollback, approve, reject, asked (a version that passed its gates asks to serve), refused (by a
    gate), quarantined, failed (a round), or the audit log's own word for anything else; `NAME-refused`: a decision that
    was turned down. `who`: a person, `policy`, `penstock`, or what refused. `about`: what it concerns where
    that is no version: the id of a snapshot, the name of a token.
    """

    at: str
    kind: str
    version: str | None
    who: str
    why: str
    about: str | None = None
    previous: str | None = None
    round_id: str | None = None
    details: dict[str, Any]


class History(BaseModel):
    """Newest first; `audit`: whether the audit log's chain of hashes is whole."""

    entries: list[Happening]
    audit_ok: bool
    audit: str


def history_of(state: State, limit: int) -> History:
    """The newest `limit` entries of the audit log, and the rounds that were stopped before they made a version."""
    happened = [_happening(entry) for entry in entries(state, None, limit)] + _stopped(state, limit)
    happened.sort(key=lambda one: (one.at, one.details.get("seq", 0)), reverse=True)
    verdict = verify(state)
    return History(entries=happened[:limit], audit_ok=verdict.ok, audit=verdict.reason)


def _happening(entry: AuditEntry) -> Happening:
    details = entry.details
    kind, who = entry.action, entry.actor
    why = next((str(details[name]) for name in WORDS if details.get(name)), "; ".join(details.get("repairs", [])))
    if entry.action == "register":
        refused = details.get("gate_verdict") != "passed"
        kind = "refused" if refused else "asked"
        named = details.get("gate_refusals") or "it was never measured"
        who = "gates" if refused else entry.actor
        why = f"refused by {named}" if refused else "passed its gates"
    subject, _, name = entry.subject.partition(":")
    of_version = subject == "version" and name.isdecimal()
    return Happening(
        at=entry.at.isoformat(),
        kind=kind,
        version=name if of_version else None,
        who=who,
        why=why,
        about=None if of_version or name == "-" else name or subject,
        previous=details.get("previous"),
        round_id=details.get("lineage.round_id"),
        details={"seq": entry.seq, "hash": entry.hash}
        | {key: value for key, value in details.items() if key in DECIDED and value is not None},
    )


def _stopped(state: State, limit: int) -> list[Happening]:
    query = sa.select(rounds).where(rounds.c.outcome.in_(STOPPED)).order_by(rounds.c.started_at.desc()).limit(limit)
    with state.read() as conn:
        rows = conn.execute(query).all()
    return [
        Happening(
            at=from_micros(row.ended_at or row.started_at).isoformat(),
            kind=row.outcome,
            version=row.version,
            who="validation" if row.outcome == "quarantined" else "penstock",
            why=json.loads(row.result).get("reason", "") if row.result else "",
            round_id=row.round_id,
            details={"snapshot_id": row.snapshot_id},
        )
        for row in rows
    ]
