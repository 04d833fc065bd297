"""The one way in for a decision: the console, the command line and a resumed Prefect run all call this."""

from datetime import datetime
from typing import Any

from penstock.data.state import State
from penstock.errors import RegistryError
from penstock.registry.approvals import UNSEEN, Sight
from penstock.registry.permission import signed_by
from penstock.registry.tokens import Caller, Permission


class Decisions:
    """Approve, reject and roll back through registry.promotion, for somebody who may.

    `caller` is whose token came along. Once there are tokens, a decision without one is refused, and so is a name that
    is not the token's; before, `actor` is believed. What is refused is in the audit log.
    """

    def __init__(self, registry: Any, state: State) -> None:
        self.registry, self.state = registry, state

    def approve(
        self,
        number: str,
        actor: str | None,
        reason: str,
        now: datetime,
        caller: Caller | None = None,
        sight: Sight = UNSEEN,
    ) -> None:
        """Write the approval, then promote what it was given for.

        Raises:
            AccessError: nobody who may approve.
            ApprovalError, RegistryError, BundleError, LeaseHeld: the decision or the promotion does not bind.
        """
        from penstock.registry import promotion

        who = self._who("decide", "approve", number, actor, caller, now)
        seen = self.registry.champion_pointer()
        promotion.approve(self.registry, self.state, number, who, reason, now, sight)
        try:
            promotion.promote(self.registry, self.state, number, who, reason, None if seen is None else seen[0], now)
        except RegistryError:
            # The promotion flow waits for the same approval and may have been first.
            serving = self.registry.champion_pointer()
            if serving is None or serving[0] != number:
                raise

    def reject(
        self,
        number: str,
        actor: str | None,
        reason: str,
        now: datetime,
        caller: Caller | None = None,
        sight: Sight = UNSEEN,
    ) -> None:
        """Decide that the version never serves.

        Raises:
            AccessError: nobody who may reject.
            ApprovalError, RegistryError: it serves now, or was rejected before.
        """
        from penstock.registry import promotion

        who = self._who("decide", "reject", number, actor, caller, now)
        promotion.reject(self.registry, self.state, number, who, reason, now, sight)

    def rollback(
        self, to: str | None, actor: str | None, reason: str, now: datetime, caller: Caller | None = None
    ) -> str:
        """Let an earlier champion serve again; its number.

        Raises:
            AccessError: nobody who may roll back.
            RegistryError, BundleError, LeaseHeld: there is nothing whole to go back to.
        """
        from penstock.registry import promotion

        who = self._who("administer", "rollback", to or "-", actor, caller, now)
        return promotion.rollback(self.registry, self.state, who, reason, to, now).number

    def _who(
        self, permission: Permission, action: str, number: str, actor: str | None, caller: Caller | None, now: datetime
    ) -> str:
        """The name under which the decision is made."""
        return signed_by(self.state, permission, action, number, actor, caller, now)
