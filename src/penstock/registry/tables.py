"""The registry's tables in the state database.

`promotions` is append-only: its last row of an environment is the champion there, the one authority for who
serves. Times are UTC microseconds since 1970.
"""

import sqlalchemy as sa

from penstock.data.state import METADATA, from_micros, to_micros

__all__ = ["approvals", "audit", "from_micros", "nonces", "promotions", "to_micros", "tokens", "watch_periods"]

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

nonces = sa.Table(
    "nonces",
    METADATA,
    sa.Column("nonce", sa.String, primary_key=True),
    sa.Column("approval_id", sa.Integer, sa.ForeignKey("approvals.id"), nullable=False, unique=True),
)
"""What makes every decision one of a kind: a decision sent again, or a row that was copied, has none of its own."""

tokens = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False, unique=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String, nullable=False),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("revoked_by", sa.String),
    sa.CheckConstraint("role IN ('feeder', 'viewer', 'approver', 'admin')", name="tokens_role"),
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

watch_periods = sa.Table(
    "watch_periods",
    METADATA,
    sa.Column("promotion_id", sa.Integer, sa.ForeignKey("promotions.id"), primary_key=True),
    sa.Column("environment", sa.String, nullable=False),
    sa.Column("number", sa.String, nullable=False),
    sa.Column("previous", sa.String, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ends_at", sa.BigInteger, nullable=False),
    sa.Column("expected", sa.Text),
    sa.Column("outcome", sa.String),
    sa.Column("verdict", sa.Text),
    sa.Column("ended_at", sa.BigInteger),
    sa.CheckConstraint(
        "outcome IN ('kept', 'rolled_back', 'overtaken', 'unmeasured', 'stuck')", name="watch_periods_outcome"
    ),
)
"""One row for each promotion that is looked after; `outcome` is null while it lasts. `expected`: what the champion
before brought; `verdict`: the figures at its end. JSON both."""

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
