"""What became of a version that waited for a decision."""

from penstock.data.state import State
from penstock.registry.approvals import Approval, list_approvals
from penstock.registry.store import Registry


def settled(registry: Registry, state: State, number: str) -> Approval | None:
    """The decision that settled a version: it serves or served, or it was rejected; None while one is awaited."""
    wanted = {"champion": "approve", "retired": "approve", "rejected": "reject"}.get(registry.version(number).status)
    made = [one for one in list_approvals(state, registry.environment, number) if one.decision == wanted]
    return made[-1] if made else None
