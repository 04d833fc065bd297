"""Which of a snapshot's good rows are held as suspect: what `data.suspects` sees in the window, less what a person
has looked at and sent back."""

from collections.abc import Collection
from datetime import datetime

import polars as pl
import sqlalchemy as sa

from penstock.data.state import State, quarantine
from penstock.data.state import events as events_table
from penstock.data.suspects import suspect_reasons
from penstock.records import SnapshotManifest
from penstock.serving.answer_log import shown_items
from penstock.settings import Settings

CHUNK = 5_000
"""Users asked for in one query; SQLite takes 32,766 values."""


def suspects(state: State, settings: Settings, manifest: SnapshotManifest, good: pl.DataFrame) -> pl.DataFrame:
    """The suspect rows of `good`, with `reasons` as quarantine takes them."""
    start, end = (datetime.fromisoformat(text) for text in (manifest.window_start, manifest.window_end))
    known = known_users(state, manifest.snapshot_id, good["user_id"].unique().to_list())
    hours = (end - start).total_seconds() / 3600
    answered = answered_in(state, good, settings.suspects.answered_share)
    reason = suspect_reasons(good, settings.data.gains, known, hours, settings.suspects, answered)
    held = good.with_columns(reason).filter(pl.col("reason").is_not_null())
    if held.is_empty():
        return held.with_columns(reasons=pl.concat_list("reason")).drop("reason")
    sent_back = sa.select(quarantine.c.event_id).where(
        quarantine.c.status == "replayed", quarantine.c.event.is_not(None)
    )
    with state.read() as conn:
        vouched = set(conn.execute(sent_back).scalars())
    held = held.filter(~pl.col("event_id").is_in(list(vouched)))
    return held.with_columns(reasons=pl.concat_list("reason")).drop("reason")


def known_users(state: State, snapshot_id: str, users: Collection[str]) -> set[str]:
    """Those of `users` who have an event in another snapshot that is not in quarantine."""
    held = sa.select(quarantine.c.event_id).where(quarantine.c.event_id.is_not(None))
    elsewhere = events_table.c.snapshot_id.is_not(None) & (events_table.c.snapshot_id != snapshot_id)
    asked, found = list(users), set()
    with state.read() as conn:
        for first in range(0, len(asked), CHUNK):
            some = events_table.c.user_id.in_(asked[first : first + CHUNK])
            query = sa.select(events_table.c.user_id).where(some, elsewhere, events_table.c.event_id.not_in(held))
            found |= set(conn.execute(query.distinct()).scalars())
    return found


def answered_in(state: State, good: pl.DataFrame, share: float) -> pl.DataFrame | None:
    """What the service answered to the requests of the window's impressions, as `suspect_reasons` takes it.

    None where fewer than `share` of these requests are among the answers kept: then something else showed the items,
    or the answers are gone, and an impression that is not among them says nothing.
    """
    told = good.filter(pl.col("kind") == "impression")["request_id"].drop_nulls().unique().to_list()
    answered = shown_items(state, told)
    if not told or answered["request_id"].n_unique() < share * len(told):
        return None
    return answered


def too_many(held: int, rows: int, settings: Settings) -> list[str]:
    """Why the whole snapshot is refused for its suspects; empty where it is not."""
    limit = settings.suspects.max_share
    if not rows or held / rows <= limit:
        return []
    return [
        f"suspect rows: found {held} of {rows} ({held / rows:.1%}), expected at most {limit:.1%} (suspects.max_share)"
    ]
