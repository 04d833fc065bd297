"""How far each source was read, and what it brought that is no event; both written with the events, or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.data.sources.protocol import Message
from penstock.data.state import METADATA, SEQUENCE, State, from_micros, to_micros
from penstock.records import plain_json

positions = sa.Table(
    "source_positions",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

refused = sa.Table(
    "refused_messages",
    METADATA,
    sa.Column("id", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("sent_at", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.UniqueConstraint("source", "place"),
    sa.CheckConstraint("status IN ('held', 'taken')", name="refused_messages_status"),
    sqlite_autoincrement=True,
)
"""`taken`: it became an event after all, once what was wrong had been corrected here."""


@dataclass(frozen=True)
class Refused:
    """A message that is no event: where it came from, its bytes, and why."""

    id: int
    source: str
    place: str
    value: bytes
    sent_at: datetime | None
    reason: str
    created_at: datetime


def read_positions(state: State, source: str) -> dict[str, int]:
    """How far each part of a source was read."""
    query = sa.select(positions.c.part, positions.c.position).where(positions.c.source == source)
    with state.read() as conn:
        return {row.part: row.position for row in conn.execute(query)}


def advance(conn: sa.Connection, source: str, moved: Mapping[str, int]) -> None:
    """Move a source's positions forward; one that another reader moved further stays there."""
    for part, position in moved.items():
        mine = (positions.c.source == source) & (positions.c.part == part)
        found = conn.execute(sa.select(positions.c.position).where(mine)).scalar_one_or_none()
        if found is None:
            conn.execute(sa.insert(positions).values(source=source, part=part, position=position))
        elif position > found:
            conn.execute(sa.update(positions).where(mine).values(position=position))


def hold(conn: sa.Connection, source: str, wrong: list[tuple[Message, str]], now: datetime) -> int:
    """Keep messages with why each is no event. One that is held already stays as it was. Returns how many are new."""
    new = 0
    for message, reason in wrong:
        mine = (refused.c.source == source) & (refused.c.place == message.place)
        if conn.execute(sa.select(refused.c.id).where(mine)).one_or_none() is not None:
            continue
        new += 1
        sent = None if message.sent_at is None else to_micros(message.sent_at)
        values = {"value": as_bytes(message.value), "sent_at": sent, "reason": reason, "created_at": to_micros(now)}
        conn.execute(sa.insert(refused).values(source=source, place=message.place, status="held", **values))
    return new


def list_refused(state: State, limit: int | None = None) -> list[Refused]:
    """Messages that are held, oldest first."""
    query = sa.select(refused).where(refused.c.status == "held").order_by(refused.c.id).limit(limit)
    with state.read() as conn:
        rows = conn.execute(query).all()
    return [
        Refused(
            row.id,
            row.source,
            row.place,
            row.value,
            None if row.sent_at is None else from_micros(row.sent_at),
            row.reason,
            from_micros(row.created_at),
        )
        for row in rows
    ]


def count_refused(state: State) -> int:
    """How many messages are held."""
    query = sa.select(sa.func.count()).select_from(refused).where(refused.c.status == "held")
    with state.read() as conn:
        return int(conn.execute(query).scalar_one())


def as_bytes(value: Mapping[str, Any] | bytes) -> bytes:
    """A message as it can be kept: its own bytes, or its fields as JSON."""
    if isinstance(value, bytes):
        return value
    return json.dumps(plain_json(dict(value)), default=str, ensure_ascii=True).encode()
