"""Changing the champion: verified, under a lease, compare and swap, in one transaction.

    verify bundle ─► lease ─► [ token, expected champion, gates, approval ─► promotion + audit ] ─► MLflow follows
                              one write transaction of the state database: the only moment anything changes

A crash before the commit leaves the old champion serving; after it the new one serves, whole and verified, and
what MLflow missed is put right by Registry.reconcile().
"""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from penstock.data import leases
from penstock.data.state import State
from penstock.errors import BundleError, RegistryError, StateError
from penstock.registry.approvals import Approval, approve, note_refusal, reject, use_approval
from penstock.registry.audit import append
from penstock.registry.bundles import check_bundle
from penstock.registry.ledger import Ledger, Promotion, read_ledger
from penstock.registry.store import Registry
from penstock.registry.tables import promotions, to_micros
from penstock.registry.versions import Version, standing
from penstock.registry.watch_period import begin

__all__ = ["Approval", "Promotion", "approve", "promote", "reject", "rollback"]

STEPS = ("verified", "leased", "checked", "written", "committed", "followed")
"""What `on_step` is called with, in order; the swap happens between written and committed."""

OnStep = Callable[[str], None]


def promote(
    registry: Registry,
    state: State,
    number: str,
    actor: str,
    reason: str,
    expect_champion: str | None,
    now: datetime,
    on_step: OnStep = lambda _: None,
) -> Promotion:
    """Let a challenger serve.

    Under promotion.policy manual an approval that binds is spent; under automatic, passed gates are enough.

    Args:
        expect_champion: the version the caller saw serving, None for no champion; another one refuses.
        on_step: called after each of STEPS; what it raises ends the promotion there.

    Raises:
        RegistryError: no such version, not a challenger, or another champion than expected.
        ApprovalError: no approval, or one that does not bind.
        BundleError: the bundle is not whole.
        LeaseHeld: another promotion is going on.
        LeaseLost: this one took longer than its lease.
    """
    version = registry.version(number)

    def check(conn: sa.Connection, ledger: Ledger) -> Approval | None:
        serving = None if ledger.champion is None else ledger.champion.number
        status, why = standing(version.number, version.digest, version.tags, ledger)
        if status != "challenger":
            raise RegistryError(f"promote: {why}")
        if serving != expect_champion:
            raise RegistryError(
                f"promote: version {serving} serves, the caller expected {expect_champion}; "
                "somebody else was first, look again"
            )
        if registry.settings.promotion.policy == "automatic":
            return None
        return use_approval(conn, registry, version, ledger, now)

    return _swap(registry, state, "promote", version, actor, reason, check, now, on_step)


def rollback(
    registry: Registry,
    state: State,
    actor: str,
    reason: str,
    to: str | None = None,
    now: datetime | None = None,
    on_step: OnStep = lambda _: None,
    expect_champion: str | None = None,
) -> Promotion:
    """Let an earlier champion serve again; needs no gates and no approval, only a name and a reason.

    Args:
        to: a version that served before; the one before the present champion where it is None. Rolling back
            twice goes back twice.
        expect_champion: the version that is to be rolled back from; another one serving refuses. None: whichever.

    Raises:
        RegistryError: nothing to go back to, or `to` never served, serves already or was rejected, or another
            champion than expected.
        BundleError, LeaseHeld, LeaseLost: as for promote.
    """
    version = registry.version(_target(registry.ledger()) if to is None else to)

    def check(conn: sa.Connection, ledger: Ledger) -> None:
        serving = None if ledger.champion is None else ledger.champion.number
        if expect_champion is not None and serving != expect_champion:
            raise RegistryError(
                f"rollback: version {serving} serves, the caller expected {expect_champion}; look again"
            )
        status, why = standing(version.number, version.digest, version.tags, ledger)
        if status in ("champion", "rejected"):
            raise RegistryError(f"rollback: {why}; name another version")
        if version.number not in ledger.served:
            raise RegistryError(f"rollback: version {version.number} never served here; promote it instead")
        if to is None and _target(ledger) != version.number:
            raise RegistryError("rollback: the champion changed meanwhile; look again")

    return _swap(registry, state, "rollback", version, actor, reason, check, now or datetime.now(UTC), on_step)


def _target(ledger: Ledger) -> str:
    """The champion before the present one, leaving out what was rejected since."""
    earlier = [kept.number for kept in ledger.line()[:-1] if kept.number not in ledger.rejected]
    if not earlier:
        serving = "no version" if ledger.champion is None else f"version {ledger.champion.number}"
        raise RegistryError(f"rollback: {serving} serves and none served before it; nothing to go back to")
    return earlier[-1]


def _swap(
    registry: Registry,
    state: State,
    kind: Literal["promote", "rollback"],
    version: Version,
    actor: str,
    reason: str,
    check: Callable[[sa.Connection, Ledger], Approval | None],
    now: datetime,
    on_step: OnStep,
) -> Promotion:
    promotion: Promotion | None = None
    try:
        if not (actor.strip() and reason.strip()):
            raise RegistryError(f"{kind}: needs a name and a reason, found {actor!r} and {reason!r}")
        check_bundle(registry.bundle_dir(version), version.digest, registry.verify)
        on_step("verified")
        with champion_lease(registry, state, actor, now) as lease:
            on_step("leased")
            with state.write() as conn:
                leases.check(conn, lease)
                ledger = read_ledger(conn, registry.environment)
                approval = check(conn, ledger)
                _still_kept(registry, version)
                on_step("checked")
                written = _write(conn, registry, kind, version, ledger, approval, actor, reason, lease.token, now)
                on_step("written")
            promotion = written
            on_step("committed")
            registry.follow()
            on_step("followed")
            return promotion
    except (RegistryError, BundleError, StateError) as error:
        if promotion is None:
            note_refusal(state, actor, kind, version.number, error, now)
            raise
        raise RegistryError(
            f"{kind}: version {version.number} serves now, but what follows failed: {error}; "
            "nothing is lost, reconcile puts it right"
        ) from error


def _still_kept(registry: Registry, version: Version) -> None:
    """Under the lease nobody removes a bundle; between the verification and it somebody may have."""
    folder = registry.bundle_dir(version)
    if not folder.is_dir():
        raise BundleError(f"bundle {version.digest[:12]} is not at {folder} any more: it was removed meanwhile")


@contextmanager
def champion_lease(registry: Registry, state: State, actor: str, now: datetime) -> Iterator[leases.Lease]:
    """The one lease under which the champion of an environment may change."""
    holder = f"{actor}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    name = f"promotion:{registry.environment}"
    lease = leases.acquire(state, name, holder, registry.settings.state.lease_s, now)
    try:
        yield lease
    finally:
        leases.release(state, lease)


def _write(
    conn: sa.Connection,
    registry: Registry,
    kind: Literal["promote", "rollback"],
    version: Version,
    ledger: Ledger,
    approval: Approval | None,
    actor: str,
    reason: str,
    token: int,
    now: datetime,
) -> Promotion:
    row: dict[str, Any] = {
        "environment": registry.environment,
        "number": version.number,
        "digest": version.digest,
        "kind": kind,
        "previous": None if ledger.champion is None else ledger.champion.number,
        "actor": actor,
        "reason": reason,
        "approval_id": None if approval is None else approval.id,
        "token": token,
    }
    key = conn.execute(sa.insert(promotions).values(**row, at=to_micros(now))).inserted_primary_key
    number = 0 if key is None else key[0]
    minutes = registry.settings.promotion.watch_minutes
    if kind == "promote" and ledger.champion is not None and minutes > 0:
        begin(conn, registry.environment, number, version.number, ledger.champion.number, minutes, now)
    approver = None if approval is None else approval.actor
    details = row | {"report_digest": version.report_digest, "approver": approver}
    append(conn, actor, kind, f"version:{version.number}", details, now)
    return Promotion(id=number, at=now, **row)
