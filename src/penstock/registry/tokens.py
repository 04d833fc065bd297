"""Who may do what: named tokens with a role.

A token is 32 random bytes, shown once; the state database keeps its SHA-256 alone. A slow hash (scrypt) was rejected:
it protects passwords that can be guessed, and 256 random bits cannot. As long as no token was ever made, whoever
reaches the service may do everything, which is why it then listens on this machine only; from the first one on,
revoked ones included, every request needs one.
"""

import hashlib
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import sqlalchemy as sa

from penstock.data.state import State
from penstock.errors import AccessError
from penstock.registry.audit import append
from penstock.registry.tables import from_micros, to_micros
from penstock.registry.tables import tokens as table

Role = Literal["feeder", "viewer", "approver", "admin"]
Permission = Literal["feed", "ask", "read", "decide", "administer"]

MAY: dict[Role, frozenset[Permission]] = {
    "feeder": frozenset({"feed", "ask"}),
    "viewer": frozenset({"read", "ask"}),
    "approver": frozenset({"read", "ask", "decide"}),
    "admin": frozenset(get_args(Permission)),
}
"""feed: send events; ask: recommendations; read: pages and figures; decide: approve and reject; administer: tokens,
rollback and whatever is not named."""

MACHINES = frozenset({"penstock", "policy", "watch period"})
"""Names under which the machine itself acts; nobody else may bear one."""

PREFIX = "pst_"
VARIABLE = "PENSTOCK_TOKEN"
"""Where the command line looks for one."""


@dataclass(frozen=True)
class Caller:
    """Who a token stands for."""

    name: str
    role: Role

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in MAY[self.role]


@dataclass(frozen=True)
class Token:
    """What is known of a token; never the token."""

    id: int
    name: str
    role: Role
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None


@dataclass(frozen=True)
class Keys:
    """The tokens of one moment. `required`: whether a request needs one; `callers`: by the SHA-256 of the token."""

    required: bool
    callers: dict[str, Caller]

    def caller(self, token: str | None) -> Caller | None:
        """Who bears this token; None for no token and for one that is unknown or revoked."""
        return None if token is None else self.callers.get(_sha256(token))


def create_token(state: State, name: str, role: Role, actor: str, now: datetime) -> str:
    """Make a token; this is the only time that it can be seen.

    Raises:
        AccessError: a name that is blank, too long, a machine's, or that a live token bears already.
    """
    label = " ".join(name.split())
    if not label or len(label) > 100 or not label.isprintable():
        raise AccessError(f"a token needs a name of 1 to 100 printable characters, found {name!a}")
    if folded(label) in MACHINES:
        raise AccessError(f"{label!r} is what the machine itself is called; choose another name")
    token = PREFIX + secrets.token_urlsafe(32)
    with state.write() as conn:
        live = conn.execute(sa.select(table.c.name).where(table.c.revoked_at.is_(None))).scalars()
        if folded(label) in {folded(other) for other in live}:
            raise AccessError(f"{label!r} has a token already; revoke it first, or choose another name")
        row = {"name": label, "role": role, "created_at": to_micros(now), "created_by": actor}
        conn.execute(sa.insert(table).values(**row, sha256=_sha256(token)))
        append(conn, actor, "create-token", f"token:{label}", {"role": role}, now)
    return token


def list_tokens(state: State) -> list[Token]:
    """Every token that was made, oldest first."""
    columns = [column for column in table.c if column.name != "sha256"]
    with state.read() as conn:
        rows = conn.execute(sa.select(*columns).order_by(table.c.id)).mappings().all()
    times = ("created_at", "revoked_at")
    return [Token(**(dict(row) | {key: _time(row[key]) for key in times})) for row in rows]


def revoke_token(state: State, name: str, actor: str, now: datetime) -> None:
    """End the live token of that name; services notice within a second.

    Raises:
        AccessError: there is none.
    """
    with state.write() as conn:
        live = conn.execute(sa.select(table.c.id, table.c.name).where(table.c.revoked_at.is_(None))).all()
        found = [row for row in live if folded(row.name) == folded(name)]
        if not found:
            names = ", ".join(row.name for row in live) or "none"
            raise AccessError(f"no live token is called {name!r}; there is {names}")
        ended = {"revoked_at": to_micros(now), "revoked_by": actor}
        conn.execute(sa.update(table).where(table.c.id == found[0].id).values(**ended))
        append(conn, actor, "revoke-token", f"token:{found[0].name}", {}, now)


def read_keys(state: State) -> Keys:
    """The tokens as they are now."""
    with state.read() as conn:
        rows = conn.execute(sa.select(table.c.sha256, table.c.name, table.c.role, table.c.revoked_at)).all()
    return Keys(bool(rows), {row.sha256: Caller(row.name, row.role) for row in rows if row.revoked_at is None})


def folded(name: str) -> str:
    """A name as it is compared: case, width and spaces do not tell two people apart."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
