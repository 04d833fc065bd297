"""A person's decision carried out: what `penstock approve`, `penstock reject` and the promotion flow all end in."""

from datetime import datetime
from typing import Literal

from penstock.data.state import State
from penstock.registry.approvals import Approval, list_approvals
from penstock.registry.promotion import approve, promote, reject
from penstock.registry.store import Registry
from penstock.registry.versions import Version

Verdict = Literal["approve", "reject"]


def carry_out(
    registry: Registry, state: State, number: str, verdict: Verdict, actor: str, reason: str, now: datetime
) -> Version:
    """Approve and promote a challenger, or reject it; the version as it stands afterwards.

    The promotion expects the champion that the approval was given against, so one that changed in between refuses.

    Raises:
        ApprovalError: the decision does not bind: stale, foreign, repeated or unauthorised.
        RegistryError: no such version, or its bundle is not whole.
        LeaseHeld: another promotion is under way.
    """
    if verdict == "reject":
        reject(registry, state, number, actor, reason, now)
    else:
        approval = approve(registry, state, number, actor, reason, now)
        promote(registry, state, number, actor, reason, approval.champion_number, now)
    return registry.version(number)


def settled(registry: Registry, state: State, number: str) -> Approval | None:
    """The decision that settled a version: it serves or served, or it was rejected; None while one is awaited."""
    wanted = {"champion": "approve", "retired": "approve", "rejected": "reject"}.get(registry.version(number).status)
    made = [one for one in list_approvals(state, registry.environment, number) if one.decision == wanted]
    return made[-1] if made else None
