"""Snapshots: immutable windows of events, each a Parquet file with a manifest.

An event belongs to one snapshot at the most: the rows are marked in the transaction that records the snapshot, after
its folder was renamed into place whole. A crash in between leaves a folder that the database does not know, and the
events pending. Events that come late go into the next snapshot and are marked there: they are those before its
`window_start`, `late_rows` of them. What followed a request up to the watermark is in the request's own snapshot, also
where it happened after `window_end`; counters take it in the round after (see `RankRound.learn`).
"""

import json
import os
import shutil
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import sqlalchemy as sa

from penstock.data.hashes import content_sha256, dvc_file_md5
from penstock.data.journal import events_frame
from penstock.data.packs import packed_events
from penstock.data.state import State, from_micros, snapshots, to_micros
from penstock.data.state import events as events_table
from penstock.data.tables import file_sha256, read_table, replace_file, table_bytes, write_table
from penstock.data.watermark import Edges, next_edges, taken
from penstock.errors import DataError, SchemaError, StateError
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED, SnapshotManifest
from penstock.settings import Settings

EVENTS_FILE = "events.parquet"
MANIFEST_FILE = "manifest.json"
FOLDER = "snapshots"

Status = Literal["closed", "quarantined", "learned"]


def close_snapshot(state: State, settings: Settings, now: datetime) -> SnapshotManifest | None:
    """Close the next window over the pending events; `watermark` says where it ends.

    Returns:
        The manifest; None while fewer than `validation.min_rows` events may be taken. Events are sorted by
        (at, event_id), so equal events give equal hashes in whatever order they came.

    Raises:
        DataError: the snapshot's folder cannot be written.
    """
    with state.write() as conn:
        edges = next_edges(conn, settings.data, _last_edges(conn), now)
        if edges is None:
            return None
        which = taken(edges, settings.data)
        columns = [events_table.c[name] for name in EVENT_COLUMNS]
        events = events_frame(conn.execute(sa.select(*columns).where(which))).sort("at", "event_id")
        if len(events) < settings.validation.min_rows:
            return None
        manifest = _write_folder(conn, events, edges, settings.state.home)
        row = {"manifest": json.dumps(asdict(manifest)), "status": "closed", "window_end": to_micros(edges.end)}
        conn.execute(sa.insert(snapshots).values(snapshot_id=manifest.snapshot_id, created_at=to_micros(now), **row))
        marked = conn.execute(sa.update(events_table).where(which).values(snapshot_id=manifest.snapshot_id))
        if marked.rowcount != len(events):
            raise StateError(
                f"snapshot {manifest.snapshot_id} holds {len(events)} events, {marked.rowcount} were marked as "
                "its own; nothing was changed; report this"
            )
    return manifest


def read_snapshot(manifest: SnapshotManifest) -> pl.DataFrame:
    """The events of a snapshot, from its file or its pack: records.EVENT_COLUMNS, by (at, event_id).

    Raises:
        SchemaError: the file is missing, truncated or altered since the snapshot was closed.
    """
    path = Path(manifest.path)
    if not path.exists() and path.parent.parent.name == FOLDER:
        packed = packed_events(path.parents[2], manifest)
        if packed is not None:
            return packed[0]
    try:
        found = file_sha256(path)
    except OSError as error:
        raise SchemaError(
            f"snapshot {manifest.snapshot_id}: {path} cannot be read ({error.strerror}); the journal still holds its "
            "events: replay the snapshot"
        ) from error
    if found != manifest.sha256:
        raise SchemaError(
            f"snapshot {manifest.snapshot_id}: {path} ({path.stat().st_size} bytes) has sha256 {found[:12]}…, its "
            f"manifest says {manifest.sha256[:12]}…: it was cut short or altered; the journal still holds its "
            "events: replay the snapshot"
        )
    return read_table(path, EVENT_COLUMNS, EVENT_REQUIRED)


def snapshot_bytes(manifest: SnapshotManifest) -> bytes:
    """A snapshot's file as it was closed, from its folder or its pack, verified.

    Raises:
        SchemaError: see `read_snapshot`.
    """
    path = Path(manifest.path)
    events = read_snapshot(manifest)
    return path.read_bytes() if path.exists() else table_bytes(events)


def find_snapshot(state: State, snapshot_id: str) -> tuple[SnapshotManifest, Status]:
    """A snapshot's manifest and status.

    Raises:
        StateError: there is none of that id.
    """
    with state.read() as conn:
        return manifest_row(conn, snapshot_id)


def list_snapshots(state: State, status: Status | None = None, limit: int | None = None) -> list[SnapshotManifest]:
    """Snapshots in the order they were closed, the newest `limit` of them."""
    query = sa.select(snapshots.c.manifest).order_by(snapshots.c.seq.desc()).limit(limit)
    if status is not None:
        query = query.where(snapshots.c.status == status)
    with state.read() as conn:
        return [_manifest(text) for text in reversed(conn.execute(query).scalars().all())]


def recent_snapshots(state: State, before: SnapshotManifest, limit: int) -> list[SnapshotManifest]:
    """The newest `limit` snapshots closed before this one that were not refused: what its volume is judged by."""
    seq = sa.select(snapshots.c.seq).where(snapshots.c.snapshot_id == before.snapshot_id).scalar_subquery()
    query = sa.select(snapshots.c.manifest).where(snapshots.c.seq < seq, snapshots.c.status != "quarantined")
    with state.read() as conn:
        rows = conn.execute(query.order_by(snapshots.c.seq.desc()).limit(limit)).scalars().all()
    return [_manifest(text) for text in reversed(rows)]


def mark_learned(conn: sa.Connection, snapshot_id: str) -> None:
    """Record, in the transaction that ends its round, that a snapshot was learned from.

    Raises:
        StateError: it was not waiting to be learned: unknown, refused, or learned before.
    """
    set_status(conn, snapshot_id, "learned", ("closed",))


def set_status(conn: sa.Connection, snapshot_id: str, status: Status, allowed: tuple[Status, ...]) -> None:
    """Move a snapshot to another status.

    Raises:
        StateError: unknown, or its status is none of `allowed`.
    """
    _, found = manifest_row(conn, snapshot_id)
    if found not in allowed:
        raise StateError(
            f"snapshot {snapshot_id} is {found}, expected {' or '.join(allowed)} for it to become {status}; "
            "nothing was changed"
        )
    conn.execute(sa.update(snapshots).where(snapshots.c.snapshot_id == snapshot_id).values(status=status))


def manifest_row(conn: sa.Connection, snapshot_id: str) -> tuple[SnapshotManifest, Status]:
    """A snapshot's manifest and status within a transaction.

    Raises:
        StateError: there is none of that id.
    """
    row = conn.execute(sa.select(snapshots).where(snapshots.c.snapshot_id == snapshot_id)).one_or_none()
    if row is None:
        raise StateError(f"no snapshot {snapshot_id!r} in the state database; `penstock status` lists them")
    return _manifest(row.manifest), row.status


def save_manifest(conn: sa.Connection, manifest: SnapshotManifest) -> None:
    """Record what became known after closing (quarantined rows, DVC's md5); the file's copy stays as it was."""
    text = json.dumps(asdict(manifest))
    conn.execute(sa.update(snapshots).where(snapshots.c.snapshot_id == manifest.snapshot_id).values(manifest=text))


def _manifest(text: str) -> SnapshotManifest:
    return SnapshotManifest(**json.loads(text))


def _last_edges(conn: sa.Connection) -> Edges | None:
    last = conn.execute(sa.select(snapshots.c.manifest).order_by(snapshots.c.seq.desc()).limit(1)).scalar()
    if last is None:
        return None
    manifest = _manifest(last)
    start, end, watermark = (
        datetime.fromisoformat(text) for text in (manifest.window_start, manifest.window_end, manifest.watermark)
    )
    return Edges(start, end, watermark)


def _unused_id(conn: sa.Connection, name: str) -> str:
    """`name`, numbered where a snapshot has it: one that was refused, replayed and closed again unchanged."""
    known = sa.select(snapshots.c.snapshot_id).where(snapshots.c.snapshot_id.startswith(name))
    count = len(conn.execute(known).all())
    return f"{name}-{count + 1}" if count else name


def _write_folder(conn: sa.Connection, events: pl.DataFrame, edges: Edges, home: Path) -> SnapshotManifest:
    root = home / FOLDER
    part = root / f".{os.getpid()}.part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        write_table(events, part / EVENTS_FILE)
        sha256 = file_sha256(part / EVENTS_FILE)
        first: Any = events["at"][0]
        start = edges.start or min(from_micros(to_micros(first)), edges.end)
        manifest = describe(events, sha256, start, edges.end, edges.watermark)
        name = _unused_id(conn, manifest.snapshot_id)
        folder = root / name
        md5 = dvc_file_md5(part / EVENTS_FILE)
        manifest = replace(manifest, snapshot_id=name, path=str(folder / EVENTS_FILE), dvc_md5=md5)
        text = json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"
        replace_file(part / MANIFEST_FILE, lambda path: _write_text(path, text))
        shutil.rmtree(folder, ignore_errors=True)  # of a close that crashed before it was recorded
        part.rename(folder)
        _sync(root)
    except OSError as error:
        raise DataError(
            f"snapshot of {len(events)} events: {root} cannot be written ({error.strerror}); its events stay pending; "
            "free the disk or set state.home to a folder this user may write"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def describe(
    events: pl.DataFrame, sha256: str, start: datetime, end: datetime, watermark: datetime
) -> SnapshotManifest:
    """The manifest of some events as one snapshot; its path is still empty.

    Args:
        sha256: of the Parquet file. Equal events have the same `content_sha256` even where they were received at
            different times; the file's own differs then.
    """
    content = content_sha256(events)
    counts = events.group_by("kind").len().sort("kind")
    return SnapshotManifest(
        snapshot_id=f"{end:%Y%m%dT%H%M%S}-{content[:8]}",
        sha256=sha256,
        rows=len(events),
        counts_by_kind=dict(zip(counts["kind"], counts["len"], strict=True)),
        window_start=start.isoformat(),
        window_end=end.isoformat(),
        watermark=watermark.isoformat(),
        late_rows=events.filter(pl.col("at") < start).height,
        quarantined_rows=0,
        path="",
        content_sha256=content,
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
