"""Many small snapshots in few large Parquet files, each with its hash as before.

A pack holds the rows of many snapshots, with a column that says whose they are. A snapshot that is read from a pack is
written as it was and its sha256 compared; where another release of the Parquet writer gives other bytes, the hash of
its content decides. packs/index.json says which pack holds which snapshot; originals go once it says so.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from penstock.data.hashes import bytes_sha256, content_sha256
from penstock.data.tables import conform, file_sha256, read_table, replace_file, table_bytes
from penstock.errors import DataError, SchemaError
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED, SnapshotManifest

FOLDER, INDEX = "packs", "index.json"
OWNER = "snapshot_id"
GROUP_ROWS = 20_000
"""Rows of one row group: a snapshot is found without reading the whole pack."""

FULL = 0.5
"""A pack that holds this share of `pack_rows` is not packed again."""


@dataclass(frozen=True)
class Compacted:
    """What compaction did: snapshots that are in packs now and were not, packs in all, and bytes on disk."""

    snapshots: int
    packs: int
    bytes_before: int
    bytes_after: int


def compact(home: Path, manifests: list[SnapshotManifest], pack_rows: int) -> Compacted:
    """Move snapshots into packs of at most about `pack_rows` rows; the last pack is filled up where it is small.

    Args:
        home: state.home.
        manifests: those to pack, oldest first; ones that are packed already stay as they are.

    Raises:
        SchemaError: a snapshot is not as its manifest says; what was packed before it stays.
        DataError: a folder cannot be written.
    """
    root = home / FOLDER
    index = read_index(home)
    loose = [one for one in manifests if one.snapshot_id not in index]
    before = _size(home)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for one in manifests:
            if one.snapshot_id in index:
                shutil.rmtree(Path(one.path).parent, ignore_errors=True)  # of a compaction that was killed before this
        small = _small_pack(root, index, pack_rows)
        again = [one for one in manifests if small is not None and index.get(one.snapshot_id) == small]
        for group in _groups([*again, *loose], pack_rows) if loose else []:
            index = _pack(home, group, index)
        for path in root.glob("*.parquet"):
            if path.name not in index.values():
                path.unlink()
    except OSError as error:
        raise DataError(
            f"{root} cannot be written ({error.strerror}); every snapshot is still where it was; free the disk"
        ) from error
    return Compacted(len(loose), len(set(index.values())), before, _size(home))


def read_index(home: Path) -> dict[str, str]:
    """The pack of each packed snapshot, by its id.

    Raises:
        SchemaError: the index cannot be read.
    """
    path = home / FOLDER / INDEX
    if not path.exists():
        return {}
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path} cannot be read ({error}); fetch the snapshots anew: penstock data of") from error
    return found


def packed_events(home: Path, manifest: SnapshotManifest) -> tuple[pl.DataFrame, bytes] | None:
    """A packed snapshot's events and its file, verified; None where no pack holds it.

    Raises:
        SchemaError: the pack is missing or altered.
    """
    name = read_index(home).get(manifest.snapshot_id)
    if name is None:
        return None
    path = home / FOLDER / name
    try:
        with path.open("rb") as file:
            rows = pl.scan_parquet(file).filter(pl.col(OWNER) == manifest.snapshot_id).drop(OWNER).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SchemaError(f"pack {path} cannot be read ({error}); fetch it anew from where it was published") from error
    events = conform(rows, EVENT_COLUMNS, EVENT_REQUIRED, str(path))
    return events, _verified(events, manifest, path)


def _verified(events: pl.DataFrame, manifest: SnapshotManifest, pack: Path) -> bytes:
    written = table_bytes(events)
    if bytes_sha256(written) != manifest.sha256 and content_sha256(events) != manifest.content_sha256:
        raise SchemaError(
            f"snapshot {manifest.snapshot_id} in {pack} is not what its manifest says (sha256 "
            f"{manifest.sha256[:12]}…): the pack was altered; fetch the snapshot anew from where it was published"
        )
    return written


def unpack(home: Path, manifests: list[SnapshotManifest]) -> int:
    """Put packed snapshots back into folders of their own, and remove the packs. Returns how many.

    Raises:
        SchemaError: a pack is missing or altered; nothing is removed then.
    """
    index = read_index(home)
    packed = [one for one in manifests if one.snapshot_id in index]
    for one in packed:
        found = packed_events(home, one)
        assert found is not None  # the index names it
        path = Path(one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda part, data=found[1]: _write(part, data))  # type: ignore[misc]
    shutil.rmtree(home / FOLDER, ignore_errors=True)
    return len(packed)


def _pack(home: Path, group: list[SnapshotManifest], index: dict[str, str]) -> dict[str, str]:
    """Write one pack, see that it gives every snapshot back, note it, then remove what it replaces."""
    frames = []
    for one in group:
        path = Path(one.path)
        if path.exists():
            if file_sha256(path) != one.sha256:
                raise SchemaError(f"snapshot {one.snapshot_id}: {path} was altered; it is not packed")
            events = read_table(path, EVENT_COLUMNS, EVENT_REQUIRED)
        else:
            found = packed_events(home, one)
            if found is None:
                raise SchemaError(f"snapshot {one.snapshot_id}: {path} is not there and no pack holds it")
            events = found[0]
        frames.append(events.select(pl.lit(one.snapshot_id).alias(OWNER), pl.all()))
    name = f"{group[0].snapshot_id}--{group[-1].snapshot_id}-{len(group)}.parquet"
    path = home / FOLDER / name
    rows = pl.concat(frames)
    replace_file(path, lambda part: rows.write_parquet(part, compression_level=9, row_group_size=GROUP_ROWS))
    with path.open("rb") as file:
        parts = pl.read_parquet(file).partition_by(OWNER, as_dict=True, include_key=False)
    for one in group:
        _verified(parts[(one.snapshot_id,)], one, path)
    grown = index | {one.snapshot_id: name for one in group}
    text = json.dumps(grown, indent=0, sort_keys=True)
    replace_file(home / FOLDER / INDEX, lambda part: _write(part, text.encode()))
    for one in group:
        shutil.rmtree(Path(one.path).parent, ignore_errors=True)
    return grown


def _groups(manifests: list[SnapshotManifest], pack_rows: int) -> Iterator[list[SnapshotManifest]]:
    group: list[SnapshotManifest] = []
    rows = 0
    for one in manifests:
        if group and rows + one.rows > pack_rows:
            yield group
            group, rows = [], 0
        group.append(one)
        rows += one.rows
    if group:
        yield group


def _small_pack(root: Path, index: dict[str, str], pack_rows: int) -> str | None:
    """The newest pack, where it has room."""
    if not index:
        return None
    newest = index[max(index)]
    rows = pl.scan_parquet(root / newest, glob=False).select(pl.len()).collect().item()
    return newest if rows < FULL * pack_rows else None


def _size(home: Path) -> int:
    folders = (home / FOLDER, home / "snapshots")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.parquet"))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
