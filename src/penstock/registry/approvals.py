"""A named person's decision about one version.

An approval binds to what the person saw: the bundle's digest, the gate report's digest, the champion of that
moment and the environment. It carries a nonce of its own, expires, and is used once. Whoever asked for the version to
serve cannot approve it. Anything that does not bind is refused, and the refusal is written to the audit log.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.data.state import State
from penstock.errors import ApprovalError
from penstock.registry.audit import append
from penstock.registry.ledger import Ledger, read_ledger
from penstock.registry.store import Registry
from penstock.registry.tables import approvals, from_micros, nonces, to_micros
from penstock.registry.tokens import folded
from penstock.registry.versions import Version, binding_of, standing


@dataclass(frozen=True)
class Approval:
    """One decision. `expires_at` is None for a rejection, `used_at` until a promotion used it."""

    id: int
    environment: str
    number: str
    decision: str
    digest: str
    report_digest: str
    champion_number: str | None
    champion_digest: str | None
    actor: str
    requester: str
    reason: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True)
class Sight:
    """What a decision was made on, as it came in with the decision.

    seen: the binding (see binding_of) of what the person looked at; None where it was not sent along.
    nonce: sent with the decision so that the same one cannot be sent again; one is made where it is None.
    """

    seen: str | None = None
    nonce: str | None = None


UNSEEN = Sight()


def approve(
    registry: Registry, state: State, number: str, actor: str, reason: str, now: datetime, sight: Sight = UNSEEN
) -> Approval:
    """Approve a challenger; the same person approving the same thing again gets the same approval.

    Raises:
        ApprovalError: no name or reason, the requester's own, a repeated nonce, something else than what was looked
            at, or the version does not wait for a decision.
        RegistryError: no such version.
    """
    version = registry.version(number)
    try:
        _require_person(actor, reason, version)
        with state.write() as conn:
            ledger = read_ledger(conn, registry.environment)
            status, why = standing(version.number, version.digest, version.tags, ledger)
            if status != "challenger":
                raise ApprovalError(f"version {number} cannot be approved: {why}")
            _require_sight(conn, sight, version, ledger, registry.environment)
            open_row = _newest(conn, number, registry.environment)
            if open_row is not None and not _faults(conn, open_row, version, ledger, registry.environment, now):
                if _same(open_row["actor"], actor):
                    return _approval(open_row)
                raise ApprovalError(f"version {number} was already approved by {open_row['actor']}; promote it")
            return _decide(conn, "approve", registry, version, ledger, actor, reason, now, sight.nonce)
    except ApprovalError as error:
        note_refusal(state, actor, "approve", number, error, now)
        raise


def reject(
    registry: Registry, state: State, number: str, actor: str, reason: str, now: datetime, sight: Sight = UNSEEN
) -> Approval:
    """Decide that a version never serves (again) in this environment.

    Raises:
        ApprovalError: no name or reason, it serves now, it was rejected before, or something else than what was
            looked at.
        RegistryError: no such version.
    """
    version = registry.version(number)
    try:
        _require_words(actor, reason)
        with state.write() as conn:
            ledger = read_ledger(conn, registry.environment)
            status, why = standing(version.number, version.digest, version.tags, ledger)
            if status == "champion":
                raise ApprovalError(f"version {number} cannot be rejected: it serves now; roll back first")
            if status == "rejected":
                raise ApprovalError(f"version {number} cannot be rejected again: {why}")
            _require_sight(conn, sight, version, ledger, registry.environment)
            decided = _decide(conn, "reject", registry, version, ledger, actor, reason, now, sight.nonce)
    except ApprovalError as error:
        note_refusal(state, actor, "reject", number, error, now)
        raise
    registry.follow()
    return decided


def use_approval(conn: sa.Connection, registry: Registry, version: Version, ledger: Ledger, now: datetime) -> Approval:
    """Spend the approval that binds `version` now, inside the promotion's transaction.

    Raises:
        ApprovalError: there is none, or it is expired, used, or was given for something else.
    """
    row = _newest(conn, version.number, registry.environment) or _newest(conn, version.number, None)
    if row is None:
        raise ApprovalError(
            f"version {version.number} has no approval and promotion.policy is manual; approve it first"
        )
    faults = _faults(conn, row, version, ledger, registry.environment, now)
    if faults:
        raise ApprovalError(
            f"the approval of version {version.number} by {row['actor']} does not bind: {'; '.join(faults)}; "
            "look at the version again and approve it anew"
        )
    conn.execute(sa.update(approvals).where(approvals.c.id == row["id"]).values(used_at=to_micros(now)))
    return _approval(row | {"used_at": to_micros(now)})


def list_approvals(state: State, environment: str, number: str | None = None) -> list[Approval]:
    """Decisions of an environment, oldest first; only those about `number` where it is given."""
    query = sa.select(approvals).where(approvals.c.environment == environment).order_by(approvals.c.id)
    if number is not None:
        query = query.where(approvals.c.number == number)
    with state.read() as conn:
        return [_approval(dict(row)) for row in conn.execute(query).mappings()]


def note_refusal(state: State, actor: str, action: str, number: str, error: Exception, now: datetime) -> None:
    """Write to the audit log that `action` was refused, in a transaction of its own; `number`: or a path."""
    subject = number if number.startswith("/") else f"version:{number}"
    with state.write() as conn:
        append(conn, actor or "-", f"{action}-refused", subject, {"error": str(error)}, now)


def _require_words(actor: str, reason: str) -> None:
    for what, text in (("name", actor), ("reason", reason)):
        if not text.strip():
            raise ApprovalError(f"a decision needs a {what}, found {text!r}; say who decides and why")


def _require_person(actor: str, reason: str, version: Version) -> None:
    _require_words(actor, reason)
    if _same(actor, version.requester):
        raise ApprovalError(f"{actor!r} asked for version {version.number} and cannot approve it; somebody else has to")


def _require_sight(conn: sa.Connection, sight: Sight, version: Version, ledger: Ledger, environment: str) -> None:
    known = sa.select(nonces.c.approval_id).where(nonces.c.nonce == sight.nonce)
    if sight.nonce is not None and conn.execute(known).one_or_none() is not None:
        raise ApprovalError(
            f"this decision about version {version.number} was sent before (nonce {sight.nonce[:12]!a})"
        )
    bound = binding_of(version, ledger, environment)
    if sight.seen is not None and sight.seen != bound:
        serving = _named(None if ledger.champion is None else ledger.champion.number)
        raise ApprovalError(
            f"version {version.number} is not what was looked at any more: binding {sight.seen[:12]!a}, now "
            f"{bound[:12]} in environment {environment} while {serving} serves; look again"
        )


def _same(one: str, other: str) -> bool:
    return folded(one) == folded(other)


def _newest(conn: sa.Connection, number: str, environment: str | None) -> dict[str, Any] | None:
    """The newest approval of a version; in any environment where that is None."""
    query = sa.select(approvals).where(approvals.c.number == number, approvals.c.decision == "approve")
    if environment is not None:
        query = query.where(approvals.c.environment == environment)
    row = conn.execute(query.order_by(approvals.c.id.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else dict(row)


def _faults(
    conn: sa.Connection, row: dict[str, Any], version: Version, ledger: Ledger, environment: str, now: datetime
) -> list[str]:
    """Everything in which an approval differs from what is to be promoted."""
    champion = ledger.champion
    serving = (None, None) if champion is None else (champion.number, champion.digest)
    bound = (row["champion_number"], row["champion_digest"])
    faults = []
    if conn.execute(sa.select(nonces.c.nonce).where(nonces.c.approval_id == row["id"])).one_or_none() is None:
        faults.append("it has no nonce of its own")
    if row["environment"] != environment:
        faults.append(f"it is for environment {row['environment']}, this is {environment}")
    if row["digest"] != version.digest:
        faults.append(f"it is for bundle {row['digest'][:12]}, the version's is {version.digest[:12]}")
    if row["report_digest"] != version.report_digest:
        report = (version.report_digest or "none")[:12]
        faults.append(f"it is for gate report {row['report_digest'][:12]}, the version's is {report}")
    if bound != serving:
        faults.append(f"it was given while {_named(bound[0])} served, now {_named(serving[0])} serves")
    if row["used_at"] is not None:
        faults.append(f"it was used at {from_micros(row['used_at']).isoformat()}")
    if row["expires_at"] <= to_micros(now):
        faults.append(f"it expired at {from_micros(row['expires_at']).isoformat()}, now is {now.isoformat()}")
    if row["created_at"] > to_micros(now):
        faults.append(f"it was given at {from_micros(row['created_at']).isoformat()}, after now ({now.isoformat()})")
    if _same(row["actor"], version.requester):
        faults.append(f"{row['actor']} asked for the version")
    return faults


def _decide(
    conn: sa.Connection,
    decision: str,
    registry: Registry,
    version: Version,
    ledger: Ledger,
    actor: str,
    reason: str,
    now: datetime,
    nonce: str | None,
) -> Approval:
    champion = ledger.champion
    expires = now + timedelta(hours=registry.settings.promotion.approval_expires_h)
    row: dict[str, Any] = {
        "environment": registry.environment,
        "number": version.number,
        "decision": decision,
        "digest": version.digest,
        "report_digest": version.report_digest or "",
        "champion_number": None if champion is None else champion.number,
        "champion_digest": None if champion is None else champion.digest,
        "actor": actor,
        "requester": version.requester,
        "reason": reason,
        "created_at": to_micros(now),
        "expires_at": to_micros(expires) if decision == "approve" else None,
        "used_at": None,
    }
    key = conn.execute(sa.insert(approvals).values(**row)).inserted_primary_key
    row["id"] = None if key is None else key[0]
    own = nonce or secrets.token_hex(16)
    conn.execute(sa.insert(nonces).values(nonce=own, approval_id=row["id"]))
    append(conn, actor, decision, f"version:{version.number}", row | {"nonce": own}, now)
    return _approval(row)


def _approval(row: dict[str, Any]) -> Approval:
    times = ("created_at", "expires_at", "used_at")
    return Approval(**(row | {name: None if row[name] is None else from_micros(row[name]) for name in times}))


def _named(number: str | None) -> str:
    return "nothing" if number is None else f"version {number}"
