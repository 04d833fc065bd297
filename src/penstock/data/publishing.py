"""Snapshots in a DVC remote or behind an fsspec URL, read back before they count as published.

They lie there as DVC lays its files, by md5, so that `dvc pull` of the file that `publish` writes brings them all back.
Only what is new is sent: the others are known by their hashes, which were taken when they were closed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.data.hashes import bytes_sha256, dvc_md5, dvc_tree
from penstock.data.snapshot import list_snapshots, snapshot_bytes
from penstock.data.state import METADATA, State, to_micros
from penstock.data.tables import replace_file
from penstock.errors import DataError, DependencyMissing, SettingsError
from penstock.records import SnapshotManifest

DVC_FILE = "snapshots.dvc"

published = sa.Table(
    "published_snapshots",
    METADATA,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("snapshot_id", sa.Text, primary_key=True),
    sa.Column("md5", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("published_at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Place:
    """Where snapshots are published. `path_of`: where a file of some md5 lies there."""

    name: str
    files: Any
    path_of: Callable[[str], str]


@dataclass(frozen=True)
class Published:
    """What was sent now, what is there in all, and the hash that DVC gives to all of it."""

    sent: int
    total: int
    md5: str
    dvc_file: Path


def open_place(target: str | None, project: Path = Path()) -> Place:
    """A DVC remote by its name, the default one where there is none, or a folder by its fsspec URL.

    Raises:
        SettingsError: no such remote, and no URL.
        DependencyMissing: DVC, or the package of that file system, is not installed.
    """
    if target is not None and ("://" in target or target.startswith(("/", "."))):
        import fsspec

        try:
            files, root = fsspec.core.url_to_fs(target)
        except (ImportError, ValueError) as error:
            raise DependencyMissing(f"{target} cannot be opened: {error}; install its fsspec package") from error
        return Place(
            files.unstrip_protocol(root), files, lambda md5: f"{root.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"
        )
    return _dvc_remote(target, project)


def _dvc_remote(name: str | None, project: Path) -> Place:
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError as error:
        raise DependencyMissing("package dvc is not installed; pip install 'penstock[learn]'") from error
    try:
        with Repo(str(project)) as repo:
            remote = repo.cloud.get_remote(name)
            store = remote.odb
    except DvcException as error:
        raise SettingsError(
            f"DVC remote {name or '(the default)'} cannot be used in {project.absolute()}: {error}; name one that `dvc "
            "remote list` shows, or a URL"
        ) from error
    return Place(f"dvc:{remote.name}", store.fs.fs, store.oid_to_path)


def publish(state: State, home: Path, place: Place, now: datetime) -> Published:
    """Send every learned snapshot that is not there yet, each read back and compared before it is noted.

    Raises:
        DataError: what was read back is not what was sent, or nothing can be sent; it does not count as published.
        SchemaError: a snapshot was altered here; it is not sent.
    """
    state.ensure()
    there = published_at(state, place.name)
    sent = 0
    for manifest in list_snapshots(state, "learned"):
        known = there.get(manifest.snapshot_id)
        if known is not None and manifest.dvc_md5 in (None, known[0]):
            continue  # another hash: an erasure wrote it anew
        data = snapshot_bytes(manifest)
        md5 = dvc_md5(data)
        _send(place, md5, data)
        row = {"place": place.name, "snapshot_id": manifest.snapshot_id, "md5": md5, "bytes": len(data)}
        mine = (published.c.place == place.name) & (published.c.snapshot_id == manifest.snapshot_id)
        with state.write() as conn:
            conn.execute(sa.delete(published).where(mine))
            conn.execute(sa.insert(published).values(**row, published_at=to_micros(now)))
        there[manifest.snapshot_id] = (md5, len(data))
        sent += 1
    if not there:
        raise DataError("no snapshot was learned from yet, so there is nothing to publish; run `penstock round` first")
    tree, listing = dvc_tree({f"{name}.parquet": md5 for name, (md5, _) in there.items()})
    _send(place, tree, listing)
    size = sum(size for _, size in there.values())
    text = f"outs:\n- md5: {tree}\n  size: {size}\n  nfiles: {len(there)}\n  hash: md5\n  path: snapshots-published\n"
    path = home / DVC_FILE
    replace_file(path, lambda part: _write(part, text))
    return Published(sent, len(there), tree, path)


def published_at(state: State, place: str) -> dict[str, tuple[str, int]]:
    """md5 and bytes of what is published at a place, by snapshot."""
    query = sa.select(published).where(published.c.place == place)
    with state.read() as conn:
        return {row.snapshot_id: (row.md5, row.bytes) for row in conn.execute(query)}


def published_places(state: State) -> list[str]:
    """Names of the places that anything was ever published at: URLs, and `dvc:NAME` of DVC's remotes."""
    state.ensure()
    query = sa.select(published.c.place).distinct().order_by(published.c.place)
    with state.read() as conn:
        return list(conn.execute(query).scalars())


def fetch(place: Place, manifest: SnapshotManifest) -> bytes:
    """A snapshot's file from where it was published, verified.

    Raises:
        DataError: it is not there, or not what the manifest says.
    """
    if manifest.dvc_md5 is None:
        raise DataError(f"snapshot {manifest.snapshot_id} was closed before hashes for DVC were kept; it is not there")
    data = _read(place, place.path_of(manifest.dvc_md5))
    if bytes_sha256(data) != manifest.sha256:
        raise DataError(
            f"snapshot {manifest.snapshot_id} at {place.name} has sha256 {bytes_sha256(data)[:12]}…, its manifest says "
            f"{manifest.sha256[:12]}…: it was altered there; publish it again from another copy"
        )
    return data


def _send(place: Place, md5: str, data: bytes) -> None:
    """Under a name of its own, read back, then renamed: nobody finds half a file under its hash."""
    path = place.path_of(md5)
    part = f"{path}.part"
    try:
        place.files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with place.files.open(part, "wb") as file:
            file.write(data)
        found = _read(place, part)
        if dvc_md5(found) == md5.removesuffix(".dir"):
            place.files.mv(part, path)
            found = _read(place, path)
    except OSError as error:
        raise DataError(
            f"{path} at {place.name} cannot be written ({error}); it does not count as published"
        ) from error
    if dvc_md5(found) != md5.removesuffix(".dir"):
        raise DataError(
            f"{path} at {place.name} reads back {len(found)} bytes of md5 {dvc_md5(found)}, {len(data)} of {md5} were "
            "sent; it does not count as published; send it again"
        )


def _read(place: Place, path: str) -> bytes:
    try:
        with place.files.open(path, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise DataError(f"{path} at {place.name} cannot be read ({error}); see that it is there") from error


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
