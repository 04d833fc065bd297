"""The data's page of the console: snapshots, what was put aside and why, how the stream drifts, the Data Docs."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.data.quarantine import Quarantined, list_quarantine, replay, waive
from penstock.data.state import State, from_micros, quarantine, rounds, snapshots
from penstock.registry.audit import append
from penstock.serving import api
from penstock.serving.console_drift import CategoryMix
from penstock.serving.limits import Name, Text
from penstock.settings import Settings

SHOWN = 60
ENTRIES = 100
LISTED = 50
"""Entries that an audit entry names one by one, as on the command line."""
REASONS = 20
FIGURE = re.compile(r"\d+(?:\.\d+)?")
DOCS = "data-docs"


class SnapshotRow(BaseModel):
    """One snapshot, oldest first in the list. Shares are of its rows, all of them put aside (`bad_share`)
    where the whole was refused; `click_rate`: clicks per impression; `docs`: its
    Data Docs, where the round that validated it kept some."""

    snapshot_id: str
    status: str
    created_at: str
    window_start: str
    window_end: str
    rows: int
    counts_by_kind: dict[str, int]
    late_share: float
    bad_share: float
    click_rate: float | None
    rows_per_minute: float | None
    outcome: str | None
    reason: str
    docs: str | None


class ReasonCount(BaseModel):
    """How many rows one reason put aside."""

    reason: str
    rows: int


class Entry(BaseModel):
    """One row of the quarantine; `event` is None where a whole snapshot was refused."""

    id: int
    snapshot_id: str
    event: dict[str, Any] | None
    reasons: list[str]
    status: str
    at: str


class DataPage(BaseModel):
    """The page's figures. `limits`: where the plotted values would be refused; `mix`: of the snapshots in their order,
    None where no version ranks items."""

    snapshots: list[SnapshotRow]
    reasons: list[ReasonCount]
    quarantine: list[Entry]
    by_status: dict[str, int]
    limits: dict[str, float]
    mix: CategoryMix | None = None


class Settling(api.Strict):
    """Which held entries, or all of one snapshot, and on whose word."""

    ids: tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...] = Field(default=(), max_length=1000)
    snapshot_id: Text | None = None
    actor: Annotated[Name, Field(max_length=200)] | None = None
    reason: Annotated[Name, Field(max_length=2_000)]

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ids": [1], "actor": "Ada", "reason": "the exporter is repaired"}]}
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Settling":
        if bool(self.ids) == bool(self.snapshot_id):
            raise ValueError("name entries with ids, or all that is held of one snapshot with snapshot_id")
        return self


def data_page(state: State, settings: Settings) -> DataPage:
    """Everything from the state database and the manifests in it."""
    with state.read() as conn:
        rows = conn.execute(sa.select(snapshots).order_by(snapshots.c.seq.desc()).limit(SHOWN)).all()
        ids = [row.snapshot_id for row in rows]
        ran = {row.snapshot_id: row for row in conn.execute(sa.select(rounds).where(rounds.c.snapshot_id.in_(ids)))}
        held = conn.execute(sa.select(quarantine).order_by(quarantine.c.id.desc()).limit(ENTRIES)).all()
        counts = conn.execute(sa.select(quarantine.c.status, sa.func.count()).group_by(quarantine.c.status)).all()
        texts = conn.execute(sa.select(quarantine.c.reasons).where(quarantine.c.status == "held")).scalars().all()
    found = [reason for text in texts for reason in json.loads(text)]
    return DataPage(
        snapshots=[_snapshot(row, ran.get(row.snapshot_id), settings) for row in reversed(rows)],
        reasons=reason_counts(found)[:REASONS],
        quarantine=[_entry(row) for row in held],
        by_status={str(status): int(count) for status, count in counts},
        limits={"bad_share": settings.validation.max_bad_row_share},
    )


def reason_counts(reasons: Iterable[str]) -> list[ReasonCount]:
    """The most frequent first; reasons that differ in their figures only are one, with … where these differ."""
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        groups.setdefault(FIGURE.sub("…", reason), []).append(reason)
    counted = [ReasonCount(reason=_in_common(alike), rows=len(alike)) for alike in groups.values()]
    return sorted(counted, key=lambda one: -one.rows)


def _in_common(alike: list[str]) -> str:
    columns = zip(*map(FIGURE.findall, alike), strict=True)
    figures = (column[0] if len(set(column)) == 1 else "…" for column in columns)
    return FIGURE.sub(lambda _: next(figures), alike[0])


def settle(state: State, how: Literal["replay", "waive"], order: Settling, actor: str, now: datetime) -> dict[str, Any]:
    """Send entries back into the journal, or settle them without learning; who and why stand in the audit log, in the
    same transaction.

    Raises:
        StateError: an entry is unknown or not held; nothing is changed then.
    """
    ids = list(order.ids) or [entry.id for entry in list_quarantine(state, "held", order.snapshot_id)]

    def note(conn: sa.Connection, entries: list[Quarantined], outcome: dict[str, Any]) -> None:
        for snapshot_id, count in sorted(Counter(entry.snapshot_id for entry in entries).items()):
            mine = [entry.id for entry in entries if entry.snapshot_id == snapshot_id]
            details = {"reason": order.reason, "entries": mine[:LISTED], "count": count, **outcome}
            append(conn, actor, f"quarantine {how}", f"snapshot:{snapshot_id}", details, now)

    if how == "waive":
        return {"settled": how, "entries": waive(state, ids, note), "released": 0}
    done = replay(state, ids, note)
    return {"settled": how, "entries": done.entries, "released": done.released}


def docs_file(settings: Settings, snapshot_id: str, name: str) -> Path | None:
    """A page of a snapshot's Data Docs; None where there is none, or the name leads elsewhere."""
    site = (settings.state.home / "rounds" / f"r-{snapshot_id}" / DOCS).resolve()
    page = (site / name).resolve()
    inside = page.is_relative_to(site) and site.parent.parent == (settings.state.home / "rounds").resolve()
    return page if inside and page.suffix == ".html" and page.is_file() else None


def docs_of(settings: Settings, snapshot_id: str) -> str | None:
    """The first page to look at in a snapshot's Data Docs: what was found where that is one page, else the index."""
    index = docs_file(settings, snapshot_id, "index.html")
    if index is None:
        return None
    found = sorted((index.parent / "validations").rglob("*.html"))
    return (found[0] if len(found) == 1 else index).relative_to(index.parent).as_posix()


def _snapshot(row: Any, ran: Any, settings: Settings) -> SnapshotRow:
    manifest = json.loads(row.manifest)
    counts: dict[str, int] = manifest.get("counts_by_kind", {})
    total, shown = manifest.get("rows", 0), counts.get("impression", 0)
    start, end = manifest.get("window_start", ""), manifest.get("window_end", "")
    minutes = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() / 60 if start and end else 0
    result = json.loads(ran.result) if ran is not None and ran.result else {}
    docs = docs_of(settings, row.snapshot_id)
    return SnapshotRow(
        snapshot_id=row.snapshot_id,
        status=row.status,
        created_at=from_micros(row.created_at).isoformat(),
        window_start=start,
        window_end=end,
        rows=total,
        counts_by_kind=counts,
        late_share=manifest.get("late_rows", 0) / total if total else 0.0,
        bad_share=1.0 if row.status == "quarantined" else manifest.get("quarantined_rows", 0) / total if total else 0.0,
        click_rate=counts.get("click", 0) / shown if shown else None,
        rows_per_minute=total / minutes if minutes > 0 else None,
        outcome=None if ran is None else ran.outcome,
        reason=result.get("reason", ""),
        docs=None if docs is None else f"/data-docs/{row.snapshot_id}/{docs}",
    )


def _entry(row: Any) -> Entry:
    return Entry(
        id=row.id,
        snapshot_id=row.snapshot_id,
        event=json.loads(row.event) if row.event else None,
        reasons=json.loads(row.reasons),
        status=row.status,
        at=from_micros(row.created_at).isoformat(),
    )
