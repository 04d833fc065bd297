"""Which rows a version did and did not see, as its bundle's manifest says it: snapshots, counts, quarantine entries."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from penstock.data.snapshot import list_snapshots
from penstock.data.state import State, quarantine, snapshots
from penstock.records import SnapshotManifest


def rows_seen(state: State, manifest: SnapshotManifest, before: list[str]) -> dict[str, Any]:
    """What a round's version has taken in since its first round, this snapshot included, and what was kept from it.

    Args:
        before: snapshots that its checkpoint had taken in.

    Returns:
        `snapshots`: ids, oldest first. `seen`: their rows without those held. `not_seen`: rows of them that stand in
        quarantine, whatever became of them since: a replayed row is seen with its next snapshot. `quarantine`: the
        ids of these entries, as "3-17, 20". `refused_snapshots`: id and rows of those refused up to this one.
    """
    taken = [*before, manifest.snapshot_id]
    wanted, rows = set(taken), 0
    for one in list_snapshots(state):
        rows += one.rows if one.snapshot_id in wanted else 0
    refused = list_snapshots(state, "quarantined")
    query = sa.select(quarantine.c.id, quarantine.c.snapshot_id).where(quarantine.c.event.is_not(None))
    with state.read() as conn:
        ids = [row.id for row in conn.execute(query.order_by(quarantine.c.id)) if row.snapshot_id in wanted]
        place = sa.select(snapshots.c.seq).where(snapshots.c.snapshot_id == manifest.snapshot_id)
        upto = conn.execute(sa.select(snapshots.c.snapshot_id).where(snapshots.c.seq <= place.scalar_subquery()))
        earlier = set(upto.scalars())
    return {
        "snapshots": taken,
        "seen": rows - len(ids),
        "not_seen": len(ids),
        "quarantine": as_ranges(ids),
        "refused_snapshots": {one.snapshot_id: one.rows for one in refused if one.snapshot_id in earlier},
    }


def as_ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as text: 3, 4, 5, 8 becomes "3-5, 8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
