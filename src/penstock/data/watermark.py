"""Where a window ends: by the events' own times, not by the wall clock.

The watermark trails the newest event time seen by `data.allowed_lateness_minutes`, so a log that is replayed in
seconds closes the same windows as the traffic it was. While nothing arrives it moves on with the wall clock, but never
past what the newest events need, so that a pause in a replay makes nothing late. It never goes back, and an event whose
clock runs ahead of its receipt does not move it. See Akidau et al., "The Dataflow Model" (VLDB 2015).

A window ends `data.label_wait_minutes` before the watermark: by then a request shown in it was followed, or was not.
What followed after the window's end is taken along with its request, see `taken`.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.data.state import events, from_micros, to_micros
from penstock.settings import DataSettings

MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Edges:
    """Of one window, exclusive at `end`; `start` is None for the first. `watermark`: nothing earlier is waited for."""

    start: datetime | None
    end: datetime
    watermark: datetime


def next_edges(conn: sa.Connection, settings: DataSettings, before: Edges | None, now: datetime) -> Edges | None:
    """The window that may be closed now; None while nothing is pending.

    Args:
        before: the last window that was closed.
        now: the wall clock.
    """
    query = sa.select(sa.func.max(events.c.at), sa.func.max(events.c.received_at))
    newest, received = conn.execute(query.where(events.c.snapshot_id.is_(None), ~_runs_ahead(settings))).one()
    if newest is None:
        if before is None:
            return None
        return Edges(before.end, before.end, before.watermark)
    lateness, wait = (
        round(minutes * MINUTE_US) for minutes in (settings.allowed_lateness_minutes, settings.label_wait_minutes)
    )
    event_clock = min(newest, received) + max(to_micros(now) - received, 0)
    watermark = min(event_clock - lateness, newest + wait) + 1
    end = min(watermark - wait, newest + 1)
    if before is not None:
        watermark = max(watermark, to_micros(before.watermark))
        end = max(min(watermark - wait, newest + 1), to_micros(before.end))
    return Edges(before.end if before else None, from_micros(end), from_micros(watermark))


def taken(edges: Edges, settings: DataSettings) -> sa.ColumnElement[bool]:
    """Which events the window takes: pending ones before its end, and what followed its requests up to the watermark.

    One whose clock runs ahead is taken at once, so that validation can hold it.
    """
    pending, end = events.c.snapshot_id.is_(None), to_micros(edges.end)
    other = events.alias("shown")
    shown = sa.select(other.c.request_id).where(
        other.c.snapshot_id.is_(None),
        other.c.kind == "impression",
        other.c.at < end,
        other.c.at >= end - round(settings.label_wait_minutes * MINUTE_US),
        other.c.request_id.is_not(None),
    )
    follows = (
        (events.c.at >= end)
        & (events.c.at < to_micros(edges.watermark))
        & (events.c.kind != "impression")
        & events.c.request_id.in_(shown)
    )
    return pending & ((events.c.at < end) | follows | _runs_ahead(settings))


def _runs_ahead(settings: DataSettings) -> sa.ColumnElement[bool]:
    return events.c.at - events.c.received_at > round(settings.clock_skew_minutes * MINUTE_US)
