"""A user's events leave the journal, the snapshots and quarantine.

Snapshots are immutable but for this: their files are written anew without the user's rows, under the same id, and the
state database takes the new hash. What the database deletes is overwritten, then the file is compacted.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.data.hashes import content_sha256, dvc_file_md5
from penstock.data.packs import FOLDER as PACKS
from penstock.data.packs import unpack
from penstock.data.snapshot import list_snapshots, save_manifest
from penstock.data.state import State, quarantine
from penstock.data.state import events as events_table
from penstock.data.tables import file_sha256, write_table
from penstock.data.traces import holds, without_rows
from penstock.records import SnapshotManifest


@dataclass(frozen=True)
class ErasedRows:
    """What was there: events of the journal, entries of quarantine, and the ids of snapshots that held some."""

    events: int
    quarantined: int
    snapshots: list[str]


def erase_rows(state: State, home: Path, names: Sequence[str]) -> ErasedRows:
    """Delete a user's rows everywhere that the state database knows of; doing it again finds nothing.

    Packs that hold some are unpacked; the next compaction packs them again. `home`: state.home.

    Raises:
        DataError: a snapshot's file cannot be read or written.
        StateError: the database cannot be written.
    """
    if any(holds(path, names) for path in (home / PACKS).glob("*.parquet")):
        unpack(home, list_snapshots(state))
    touched = [manifest for manifest in list_snapshots(state) if _held_in_file(manifest, names)]
    rewritten = [_rewrite(manifest, names) for manifest in touched]
    mine = events_table.c.user_id.in_(names)
    with state.write() as conn:
        held = [row.id for row in conn.execute(sa.select(quarantine)) if _is_of(row.event, names)]
        ids = set(conn.execute(sa.select(events_table.c.snapshot_id).where(mine).distinct()).scalars()) - {None}
        events = conn.execute(sa.delete(events_table).where(mine)).rowcount
        if held:
            conn.execute(sa.delete(quarantine).where(quarantine.c.id.in_(held)))
        _erase_elsewhere(conn, names)
        for manifest in rewritten:
            save_manifest(conn, manifest)
    _overwrite_deleted(state)
    return ErasedRows(int(events), len(held), sorted(ids | {manifest.snapshot_id for manifest in touched}))


def _held_in_file(manifest: SnapshotManifest, names: Sequence[str]) -> bool:
    path = Path(manifest.path)
    return path.exists() and holds(path, names)


def _rewrite(manifest: SnapshotManifest, names: Sequence[str]) -> SnapshotManifest:
    path = Path(manifest.path)
    kept = without_rows(path, names)
    assert kept is not None  # every snapshot is a table of events
    write_table(kept, path)
    counts = dict(kept.group_by("kind").len().sort("kind").iter_rows())
    return replace(
        manifest,
        rows=len(kept),
        counts_by_kind=counts,
        sha256=file_sha256(path),
        content_sha256=content_sha256(kept),
        dvc_md5=dvc_file_md5(path),
    )


def _erase_elsewhere(conn: sa.Connection, names: Sequence[str]) -> None:
    """Rows of every other table that names a user (kept answers), and messages of a broker that were no events."""
    known = sa.MetaData()
    known.reflect(conn)
    for table in known.sorted_tables:
        if "user_id" in table.c:
            conn.execute(sa.delete(table).where(table.c.user_id.in_(names)))
    refused = known.tables.get("refused_messages")
    if refused is not None:
        rows = conn.execute(sa.select(refused.c.id, refused.c.value))
        mine = [row.id for row in rows if _names_one(row.value, names)]
        conn.execute(sa.delete(refused).where(refused.c.id.in_(mine)))


def _is_of(event: str | None, names: Sequence[str]) -> bool:
    return event is not None and json.loads(event).get("user_id") in names


def _names_one(message: bytes, names: Sequence[str]) -> bool:
    """True where a message that was no event holds one of the names: as a text of its JSON, however that is written, or
    anywhere in what is no JSON, no letter or digit adjoining."""
    try:
        return bool(_texts(json.loads(message)) & set(names))
    except (ValueError, RecursionError):
        alone = rb"(?<![0-9A-Za-z_])%s(?![0-9A-Za-z_])"
        return any(re.search(alone % re.escape(name.encode()), message) for name in names)


def _texts(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_texts(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(_texts(one) for one in value))
    return {value} if isinstance(value, str) else {str(value)}


def _overwrite_deleted(state: State) -> None:
    """SQLite leaves the text of deleted rows in the file until their pages are used again; compacting drops them."""
    if state.engine.dialect.name != "sqlite":
        return
    with state.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("COMMIT")  # of the transaction that every connection begins with
        conn.exec_driver_sql("VACUUM")
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.exec_driver_sql("BEGIN")
