"""A person's decision from the console, carried to the registry."""

from datetime import datetime
from typing import Any

from penstock.data.state import State
from penstock.errors import RegistryError


class Decisions:
    """Approve and reject through registry.promotion."""

    def __init__(self, registry: Any, state: State) -> None:
        self.registry, self.state = registry, state

    def approve(self, number: str, actor: str, reason: str, now: datetime) -> None:
        """Write the approval, then promote what it was given for.

        Raises:
            ApprovalError, RegistryError, BundleError, LeaseHeld: the decision or the promotion does not bind.
        """
        from penstock.registry import promotion

        seen = self.registry.champion_pointer()
        promotion.approve(self.registry, self.state, number, actor, reason, now)
        try:
            promotion.promote(self.registry, self.state, number, actor, reason, None if seen is None else seen[0], now)
        except RegistryError:
            # The promotion flow waits for the same approval and may have been first.
            serving = self.registry.champion_pointer()
            if serving is None or serving[0] != number:
                raise

    def reject(self, number: str, actor: str, reason: str, now: datetime) -> None:
        """Decide that the version never serves.

        Raises:
            ApprovalError, RegistryError: it serves now, or was rejected before.
        """
        from penstock.registry import promotion

        promotion.reject(self.registry, self.state, number, actor, reason, now)
