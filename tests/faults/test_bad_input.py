"""Damaged files and rows: refused with a clear error, none learned, none lost, the process lives on."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from core_bench import event, random_events, small_settings, table
from fault_trials import Trials

from penstock.data.expectations import validate_snapshot
from penstock.data.foreign import read_foreign
from penstock.data.journal import Journal
from penstock.data.quarantine import list_quarantine, quarantine_rows
from penstock.data.snapshot import close_snapshot, read_snapshot
from penstock.data.state import open_state
from penstock.data.tables import conform, table_bytes
from penstock.errors import SchemaError
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED

NOW = datetime(2026, 3, 9, tzinfo=UTC)


def mutated(data: bytes, source: random.Random) -> bytes:
    """Bytes changed, cut off, repeated or put in; never the same as before."""
    out = bytearray(data)
    for _ in range(source.randint(1, 6)):
        where, kind = source.randrange(len(out)), source.randrange(5)
        if kind == 0:
            out[where] ^= 1 << source.randrange(8)
        elif kind == 1:
            out[where : where + 8] = source.randbytes(8)
        elif kind == 2:
            del out[where:]
        elif kind == 3:
            out[where:where] = source.randbytes(source.randint(1, 64))
        else:
            del out[where : where + source.randint(1, 64)]
        if not out:
            return b""
    return bytes(out) if bytes(out) != data else data[:-1]


def test_a_mutated_snapshot_is_never_read(
    tmp_path: Path, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    settings = small_settings(tmp_path)
    state = open_state(settings.state.url)
    state.ensure()
    Journal(state, settings.data).append(random_events(1), NOW)
    manifest = close_snapshot(state, settings, NOW)
    assert manifest is not None
    path, source = Path(manifest.path), random.Random(7)
    whole, count = path.read_bytes(), trials(100, 10_000)
    for _ in range(count):
        path.write_bytes(mutated(whole, source))
        with pytest.raises(SchemaError, match="the journal still holds its events"):
            read_snapshot(manifest)
    path.write_bytes(whole)
    assert len(read_snapshot(manifest)) == manifest.rows
    figures["mutated snapshots"] = {"tried": count, "read": 0}


def test_a_mutated_file_of_events_is_an_error_or_whole_rows(
    tmp_path: Path, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    """Parquet has no checksum of its own, so a changed value may be read as one; a crash must not happen."""
    source = random.Random(11)
    whole, count = table_bytes(random_events(2)), trials(100, 10_000)
    came: Counter[str] = Counter()
    for _ in range(count):
        try:
            frame = conform(read_foreign(mutated(whole, source), "events"), EVENT_COLUMNS, EVENT_REQUIRED, "events")
        except SchemaError:
            came["refused"] += 1
        else:
            came["read"] += 1
            assert frame.schema == pl.Schema(EVENT_COLUMNS)
    assert came["refused"] > count // 2
    figures["mutated files to ingest"] = {"tried": count, **came}


def test_every_bad_row_is_in_quarantine_with_its_reason(
    tmp_path: Path, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    settings = small_settings(tmp_path)
    state = open_state(settings.state.url)
    state.ensure()
    bad_count, source = trials(200, 10_000), random.Random(3)
    spoil = [
        {"item_id": "no such item"},
        {"kind": "rating", "value": 99.0},
        {"kind": "impression", "position": -3},
        {"kind": "impression", "propensity": 7.0},
        {"kind": "purchase", "value": 1e12},
    ]
    rows = [event(n, n % 40, f"u{n % 9}", f"i{n % 12}") for n in range(bad_count // 4)]
    rows += [event(100_000 + n, n % 40, f"u{n % 9}", f"i{n % 12}") | source.choice(spoil) for n in range(bad_count)]
    source.shuffle(rows)
    accepted = Journal(state, settings.data).append(table(rows), NOW)
    assert accepted.accepted == len(rows), accepted.rejected[:1]
    manifest = close_snapshot(state, settings, NOW)
    assert manifest is not None
    verdict = validate_snapshot(read_snapshot(manifest), manifest, [f"i{n}" for n in range(12)], settings, [], None)
    quarantine_rows(state, manifest, verdict.bad, NOW + timedelta(minutes=1))
    held = list_quarantine(state, None, manifest.snapshot_id)
    expected = {row["event_id"] for row in rows if int(row["event_id"][1:]) >= 100_000}
    assert {entry.event_id for entry in held} == expected
    assert all(entry.reasons for entry in held)
    assert set(verdict.good["event_id"]) == {row["event_id"] for row in rows} - expected
    figures["bad rows"] = {"sent": bad_count, "in quarantine": len(held), "learned": 0}


def test_duplicated_shuffled_and_skewed_batches_reconcile(
    tmp_path: Path, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    """30% of the rows twice, in any order, some far in the future: every row is accepted, a duplicate or refused."""
    settings = small_settings(tmp_path)
    state = open_state(settings.state.url)
    state.ensure()
    journal, source = Journal(state, settings.data), random.Random(5)
    count = trials(2_000, 100_000)
    rows = [event(n, source.uniform(0, 100), f"u{n % 50}", f"i{n % 12}") for n in range(count)]
    future = [event(10_000_000 + n, 24 * 365, "u1", "i1") for n in range(count // 100)]
    twice = source.sample(rows, len(rows) * 3 // 10)
    sent = rows + twice + future
    source.shuffle(sent)
    accepted = duplicates = rejected = 0
    for start in range(0, len(sent), 500):
        came = journal.append(sent[start : start + 500], NOW)
        accepted, duplicates = accepted + came.accepted, duplicates + came.duplicates
        rejected += len(came.rejected)
    assert (accepted, duplicates, rejected) == (len(rows), len(twice), len(future))
    manifest = close_snapshot(state, settings, NOW)
    assert manifest is not None
    ids = read_snapshot(manifest)["event_id"].to_list()
    assert len(ids) == len(set(ids)) == len(rows) - journal.pending(), "the newest wait for the watermark"
    assert set(ids) <= {row["event_id"] for row in rows}
    figures["duplicated, shuffled and skewed"] = {
        "sent": len(sent), "accepted": accepted, "duplicates": duplicates, "refused": rejected,
    }  # fmt: skip
