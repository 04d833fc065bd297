"""Exactly what a version learned from: which snapshots, under which hash, and their files back again."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa

from penstock.data.hashes import bytes_sha256, content_sha256, dvc_tree
from penstock.data.publishing import Place, fetch
from penstock.data.quarantine import list_quarantine
from penstock.data.snapshot import find_snapshot, snapshot_bytes
from penstock.data.state import State, rounds
from penstock.data.tables import read_table, replace_file
from penstock.errors import DataError, SchemaError, StateError
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED, Lineage, SnapshotManifest

LIST_FILE = "data.json"
LEARNED = ("promoted", "waiting")


@dataclass(frozen=True)
class Part:
    """One snapshot of a version's data.

    `learned`: weights moved by it; False where its round was refused or failed and only the counters took it in.
    `excluded`: event ids that were in quarantine, so neither.
    """

    manifest: SnapshotManifest
    learned: bool
    excluded: list[str]


def tree_md5(manifests: list[SnapshotManifest]) -> str | None:
    """The hash that DVC gives a folder of these snapshots, each as ID.parquet; None where one is older than hashes."""
    known = {f"{one.snapshot_id}.parquet": one.dvc_md5 for one in manifests if one.dvc_md5 is not None}
    return dvc_tree(known)[0] if len(known) == len(manifests) else None


def data_of(state: State, lineage: Lineage) -> list[Part]:
    """The snapshots that a version's round and all before it took in, oldest first.

    Raises:
        StateError: the version was not made by a round of this state database.
        DataError: the snapshots are not those that the version's lineage names by its hash.
    """
    query = sa.select(rounds.c.round_id, rounds.c.snapshot_id, rounds.c.started_at, rounds.c.ended_at, rounds.c.outcome)
    with state.read() as conn:
        rows = conn.execute(query.order_by(rounds.c.ended_at)).all()
    own = next((row for row in rows if row.round_id == lineage.round_id), None)
    if own is None:
        raise StateError(
            f"round {lineage.round_id} is not in the state database {state.place}; a version of the batch pipeline "
            "learned from the tracked data: `git checkout` its commit, then `dvc checkout`"
        )
    before = [
        row
        for row in rows
        if row.ended_at is not None and row.ended_at <= own.started_at and row.outcome != "quarantined"
    ]
    parts = []
    for row in [*before, own]:
        held = [one.event_id for one in list_quarantine(state, None, row.snapshot_id) if one.event_id is not None]
        learned = row.outcome in LEARNED or row is own
        parts.append(Part(find_snapshot(state, row.snapshot_id)[0], learned, held))
    found = tree_md5([part.manifest for part in parts])
    if lineage.data_md5 is not None and found != lineage.data_md5:
        raise DataError(
            f"round {lineage.round_id} learned from data of DVC hash {lineage.data_md5}, the {len(parts)} snapshots "
            f"known here have {found}: a snapshot was changed since, as by erasing a user; see the audit log"
        )
    return parts


def restore(parts: list[Part], into: Path, place: Place | None, told: Callable[[str, int, int], None]) -> list[str]:
    """Write each snapshot as ID.parquet, verified, and data.json, which says what each is.

    Args:
        place: where to fetch what is not here any more.

    Returns:
        Ids whose rows are equal but whose bytes another release of the Parquet writer wrote.

    Raises:
        DataError: the folder is not empty, or a snapshot is nowhere whole.
    """
    if into.exists() and any(into.iterdir()):
        raise DataError(f"{into} is not empty; name a folder that is, or a new one")
    into.mkdir(parents=True, exist_ok=True)
    rewritten = []
    for number, part in enumerate(parts, 1):
        name = part.manifest.snapshot_id
        data = _found(part.manifest, place)
        path = into / f"{name}.parquet"
        replace_file(path, lambda part, data=data: _write(part, data))  # type: ignore[misc]
        if bytes_sha256(data) != part.manifest.sha256:
            if content_sha256(read_table(path, EVENT_COLUMNS, EVENT_REQUIRED)) != part.manifest.content_sha256:
                raise DataError(f"snapshot {name}: {path} is not what was closed; it is not restored")
            rewritten.append(name)
        told("snapshots", number, len(parts))
    listed = [
        {
            **asdict(part.manifest),
            "learned": part.learned,
            "excluded_event_ids": part.excluded,
            "path": f"{name}.parquet",
        }
        for part in parts
        for name in [part.manifest.snapshot_id]
    ]
    text = json.dumps(listed, indent=1, sort_keys=True) + "\n"
    replace_file(into / LIST_FILE, lambda part: _write(part, text.encode()))
    return rewritten


def _found(manifest: SnapshotManifest, place: Place | None) -> bytes:
    try:
        return snapshot_bytes(manifest)
    except SchemaError as error:
        if place is None:
            raise DataError(f"{error}; --from names where it was published") from error
        return fetch(place, manifest)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
