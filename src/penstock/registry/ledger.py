"""Who served, who serves, who may never serve: read from the state database inside the caller's transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from penstock.registry.tables import approvals, from_micros, promotions


@dataclass(frozen=True)
class Promotion:
    """One change of the champion. `previous`: the version that served before; `token`: the lease's fencing token."""

    id: int
    environment: str
    number: str
    digest: str
    kind: Literal["promote", "rollback"]
    previous: str | None
    actor: str
    reason: str
    approval_id: int | None
    token: int
    at: datetime


@dataclass(frozen=True)
class Ledger:
    """One environment's promotions, oldest first, and the numbers that were rejected there."""

    promotions: tuple[Promotion, ...]
    rejected: frozenset[str]

    @property
    def champion(self) -> Promotion | None:
        """The promotion that made the present champion."""
        return self.promotions[-1] if self.promotions else None

    @property
    def served(self) -> frozenset[str]:
        """Numbers that serve or served."""
        return frozenset(promotion.number for promotion in self.promotions)

    def line(self) -> list[Promotion]:
        """The champions that lead to the present one: what was rolled back is left out."""
        line: list[Promotion] = []
        for promotion in self.promotions:
            if promotion.kind == "rollback" and promotion.number in (kept.number for kept in line):
                while line[-1].number != promotion.number:
                    line.pop()
            else:
                line.append(promotion)
        return line


def read_ledger(conn: sa.Connection, environment: str) -> Ledger:
    """All promotions and rejections of an environment."""
    rows = conn.execute(
        sa.select(promotions).where(promotions.c.environment == environment).order_by(promotions.c.id)
    ).mappings()
    rejected = conn.execute(
        sa.select(approvals.c.number).where(approvals.c.environment == environment, approvals.c.decision == "reject")
    ).scalars()
    return Ledger(tuple(_promotion(row) for row in rows), frozenset(rejected))


NEWEST = (
    sa.select(promotions)
    .where(promotions.c.environment == sa.bindparam("of"))
    .order_by(promotions.c.id.desc())
    .limit(1)
)
"""Made once: SQLAlchemy takes longer over making a statement than SQLite over answering it."""


def read_champion(conn: sa.Connection, environment: str) -> Promotion | None:
    """The newest promotion of an environment: one indexed row, cheap enough to poll."""
    row = conn.execute(NEWEST, {"of": environment}).mappings().one_or_none()
    return None if row is None else _promotion(row)


def _promotion(row: Any) -> Promotion:
    return Promotion(**(dict(row) | {"at": from_micros(row["at"])}))
