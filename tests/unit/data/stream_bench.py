"""What the tests of the stream share: settings on files of their own, and events made by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from penstock.data.journal import Journal
from penstock.data.snapshot import close_snapshot
from penstock.data.state import State
from penstock.records import EVENT_COLUMNS, SnapshotManifest
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def settings_under(root: Path, **changes: Any) -> Settings:
    """params.yaml with all that is written placed under `root`; a snapshot takes whatever has come; ids are plain."""
    base = {
        "state.home": str(root), "state.url": f"sqlite:///{root}/state.db", "validation.min_rows": 1,
        "data.hash_users": False, "data.user_key_file": f"{root}/keys/users.json",
        "data.allowed_lateness_minutes": 0, "data.label_wait_minutes": 0,
    }  # fmt: skip
    return load_settings(ROOT / "params.yaml", {}).override(base | changes)


def event(number: int, minutes_ago: float = 30.0, **changes: Any) -> dict[str, Any]:
    """A click that is fine in every way."""
    at = NOW - timedelta(minutes=minutes_ago)
    return {"event_id": f"e{number:05}", "user_id": "u", "item_id": "i1", "kind": "click", "at": at} | changes


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as records.EVENT_COLUMNS, received when they happened unless they say otherwise."""
    return pl.DataFrame([{"received_at": row["at"]} | row for row in rows], schema=EVENT_COLUMNS)


def closed(state: State, settings: Settings, rows: list[dict[str, Any]], now: datetime = NOW) -> SnapshotManifest:
    """Append rows and close a snapshot over them."""
    assert Journal(state, settings.data).append(rows, now).rejected == []
    manifest = close_snapshot(state, settings, now)
    assert manifest is not None
    return manifest


def manifest_for(events: pl.DataFrame, minutes: float = 60.0, **changes: Any) -> SnapshotManifest:
    """A manifest of a window that ends at NOW."""
    values: dict[str, Any] = {
        "snapshot_id": "s1",
        "sha256": "0" * 64,
        "rows": len(events),
        "counts_by_kind": dict(events.group_by("kind").len().drop_nulls().iter_rows()),
        "window_start": (NOW - timedelta(minutes=minutes)).isoformat(),
        "window_end": NOW.isoformat(),
        "watermark": NOW.isoformat(),
        "late_rows": 0,
        "quarantined_rows": 0,
        "path": "",
    }
    return SnapshotManifest(**(values | changes))
