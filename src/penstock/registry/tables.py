"""The registry's tables in the state database, and how its rows hold time.

`promotions` is append-only: its last row of an environment is the champion there, the one authority for who
serves. Times are UTC microseconds since 1970.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from penstock.data.state import METADATA
from penstock.errors import RegistryError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

approvals = sa.Table(
    "approvals",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("environment", sa.String, nullable=False),
    sa.Column("number", sa.String, nullable=False),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("report_digest", sa.String, nullable=False),
    sa.Column("champion_number", sa.String),
    sa.Column("champion_digest", sa.String),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("requester", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("used_at", sa.BigInteger),
    sa.CheckConstraint("decision IN ('approve', 'reject')", name="approvals_decision"),
    sa.Index("approvals_by_version", "environment", "number"),
)

promotions = sa.Table(
    "promotions",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("environment", sa.String, nullable=False, index=True),
    sa.Column("number", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("previous", sa.String),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("approval_id", sa.Integer, sa.ForeignKey("approvals.id")),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.CheckConstraint("kind IN ('promote', 'rollback')", name="promotions_kind"),
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)


def to_micros(moment: datetime) -> int:
    """UTC microseconds since 1970.

    Raises:
        RegistryError: a time without a zone.
    """
    if moment.tzinfo is None:
        raise RegistryError(f"time {moment.isoformat()} has no zone, expected UTC; pass datetime.now(UTC)")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The UTC time of `value` microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)
