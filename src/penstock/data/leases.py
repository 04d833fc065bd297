"""Leases: one worker at a time, and a worker that lost its lease cannot write (fencing tokens).

The holder's clock decides when a lease ends, so machines that share a database need clocks that agree far better than
`ttl_s`. If they do not, two may work at once, but still only one can write: `check` looks at the token alone, in the
transaction that writes. See Kleppmann, "How to do distributed locking" (2016).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from penstock.data.state import State, from_micros, to_micros
from penstock.data.state import leases as table
from penstock.errors import LeaseHeld, LeaseLost


@dataclass(frozen=True)
class Lease:
    """A held lease. `token` is larger than that of every earlier holder."""

    name: str
    holder: str
    token: int
    expires_at: datetime


def acquire(state: State, name: str, holder: str, ttl_s: float, now: datetime) -> Lease:
    """Take a lease that is free or has run out.

    Raises:
        LeaseHeld: somebody holds it, the same holder included.
    """
    with state.write() as conn:
        row = conn.execute(sa.select(table).where(table.c.name == name)).one_or_none()
        if row is not None and row.holder is not None and row.expires_at > to_micros(now):
            raise LeaseHeld(
                f"lease {name!r} is held by {row.holder} until {from_micros(row.expires_at).isoformat()} (token "
                f"{row.token}), {holder} asked at {now.isoformat()}; wait until it is released or runs out"
            )
        lease = Lease(name, holder, 1 if row is None else row.token + 1, now + timedelta(seconds=ttl_s))
        values = {"holder": holder, "token": lease.token, "expires_at": to_micros(lease.expires_at)}
        if row is None:
            conn.execute(sa.insert(table).values(name=name, **values))
        else:
            conn.execute(sa.update(table).where(table.c.name == name).values(**values))
    return lease


def renew(state: State, lease: Lease, ttl_s: float, now: datetime) -> Lease:
    """Hold a lease for another `ttl_s` seconds from now; one that ran out and that nobody took is renewed too.

    Raises:
        LeaseLost: somebody else took it, or it was released.
    """
    renewed = Lease(lease.name, lease.holder, lease.token, now + timedelta(seconds=ttl_s))
    with state.write() as conn:
        check(conn, lease)
        conn.execute(
            sa.update(table).where(table.c.name == lease.name).values(expires_at=to_micros(renewed.expires_at))
        )
    return renewed


def release(state: State, lease: Lease) -> bool:
    """Give a lease back; False, and nothing done, when it is no longer this holder's."""
    mine = (table.c.name == lease.name) & (table.c.token == lease.token) & table.c.holder.is_not(None)
    with state.write() as conn:
        return conn.execute(sa.update(table).where(mine).values(holder=None, expires_at=0)).rowcount == 1


def check(conn: sa.Connection, lease: Lease) -> None:
    """Refuse to go on unless the lease is still this holder's; call it in the transaction that writes.

    Raises:
        LeaseLost: somebody else took it, or it was released.
    """
    row = conn.execute(sa.select(table).where(table.c.name == lease.name)).one_or_none()
    if row is None or row.token != lease.token or row.holder is None:
        found = "no such lease" if row is None else f"token {row.token} of {row.holder or 'nobody (released)'}"
        raise LeaseLost(
            f"lease {lease.name!r}: {lease.holder} holds token {lease.token}, the database has {found}; what this "
            "worker was about to write is dropped; start it again"
        )


def current(state: State, name: str, now: datetime) -> Lease | None:
    """Who holds a lease now; None when nobody does."""
    with state.read() as conn:
        row = conn.execute(sa.select(table).where(table.c.name == name)).one_or_none()
    if row is None or row.holder is None or row.expires_at <= to_micros(now):
        return None
    return Lease(name, row.holder, row.token, from_micros(row.expires_at))
