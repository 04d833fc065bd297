"""The registry's tables in the state database.

`promotions` is append-only: its last row of an environment is the champion there, the one authority for who
serves. Times are UTC microseconds since 1970.
"""

import sqlalchemy as sa

from penstock.data.state import METADATA, from_micros, to_micros

__all__ = ["approvals", "audit", "from_micros", "promotions", "to_micros"]

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
