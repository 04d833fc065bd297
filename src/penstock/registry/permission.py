"""Who gives an order, once there are tokens: the one check behind every decision, whichever way it comes in."""

from datetime import datetime

from penstock.data.state import State
from penstock.errors import AccessError
from penstock.registry.approvals import note_refusal
from penstock.registry.tokens import MAY, VARIABLE, Caller, Permission, folded, read_keys


def signed_by(
    state: State,
    permission: Permission,
    action: str,
    subject: str,
    actor: str | None,
    caller: Caller | None,
    now: datetime,
) -> str:
    """The name under which `action` is done to `subject`; what is refused is in the audit log.

    Args:
        actor: who is said to give the order; believed only while there are no tokens.
        caller: whose token came along.

    Raises:
        AccessError: there are tokens and none came, its role may not, or it is somebody else's.
    """
    error = None
    if caller is None and read_keys(state).required:
        error = AccessError(f"{action}: there are tokens, and none came with this; set {VARIABLE} to yours")
    elif caller is not None and not caller.may(permission):
        able = ", ".join(role for role, may in MAY.items() if permission in may)
        error = AccessError(f"{action}: {caller.name} is {caller.role}, it takes {able}; ask somebody who is")
    elif caller is not None and actor is not None and folded(actor) != folded(caller.name):
        error = AccessError(f"{action}: the token is {caller.name}'s, the decision is signed {actor!r}")
    if error is not None:
        name = actor or "-" if caller is None else caller.name
        note_refusal(state, name, action, subject, error, now)
        raise error
    return caller.name if caller is not None else actor or ""
