"""A version's manifest says which rows it saw, and which stand in quarantine instead."""

import json

from penstock.pipeline.ledger import opened
from penstock.pipeline.rows_seen import as_ranges, rows_seen


def test_ranges_are_short() -> None:
    assert as_ranges([3, 4, 5, 8, 10, 11]) == "3-5, 8, 10-11"
    assert as_ranges([]) == ""


def test_a_bundle_names_the_snapshots_and_rows_it_has_seen(rounds) -> None:  # type: ignore[no-untyped-def]
    first, second = rounds.results[:2]
    settings = rounds.shop.settings
    for result, ids in ((first, [first.snapshot_id]), (second, [first.snapshot_id, second.snapshot_id])):
        bundle = settings.registry.artifacts / "bundles" / str(result.bundle_digest)
        text = (bundle / "manifest.json").read_text()
        rows = json.loads(text)["rows"]
        assert rows["snapshots"] == ids
        assert (rows["not_seen"], rows["quarantine"], rows["refused_snapshots"]) == (0, "", {})
        assert rows["seen"] == sum(len(rounds.shop.part(index)) for index in range(len(ids)))


def test_held_rows_and_refused_snapshots_are_told_apart_from_what_was_seen(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from datetime import UTC, datetime, timedelta

    import polars as pl
    from core_bench import small_settings

    from penstock.data.journal import Journal
    from penstock.data.quarantine import quarantine_rows, quarantine_snapshot
    from penstock.data.snapshot import close_snapshot, read_snapshot

    settings = small_settings(tmp_path, **{"validation.min_rows": 1})
    state, at = opened(settings), datetime(2026, 3, 2, tzinfo=UTC)
    journal, manifests = Journal(state, settings.data), []
    for part in range(3):
        event = {"user_id": "u", "item_id": "i", "kind": "click", "at": at + timedelta(hours=part)}
        journal.append([event | {"event_id": f"{part}-{n}"} for n in range(4)], event["at"])
        manifest = close_snapshot(state, settings, event["at"] + timedelta(minutes=30))
        assert manifest is not None
        manifests.append(manifest)
    bad = read_snapshot(manifests[0]).head(2).with_columns(reasons=pl.lit(["r: x"]).list.eval(pl.element()))
    quarantine_rows(state, manifests[0], bad)
    quarantine_snapshot(state, manifests[1], ["volume"])
    seen = rows_seen(state, manifests[2], [manifests[0].snapshot_id])
    assert (seen["seen"], seen["not_seen"], seen["quarantine"]) == (6, 2, "1-2")
    assert seen["refused_snapshots"] == {manifests[1].snapshot_id: 4}
