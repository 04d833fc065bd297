"""Validation of a snapshot: which rows may be learned from, and whether the snapshot may be at all.

The rules are declared in `rules` and `window_rules`; Great Expectations keeps the record, polars masks do the sorting,
and the two must agree on every count or nothing passes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from penstock.data.admission import need_columns
from penstock.data.expectation_suite import Outcome, run_suite
from penstock.data.rules import (
    RowRule,
    broken_counts,
    broken_rows,
    checked_table,
    late,
    reasons_of,
    refused_rows,
    row_rules,
)
from penstock.data.tables import conform
from penstock.data.window_rules import WindowRule, window_rules
from penstock.errors import DataError, EmptyWindow, SchemaError, SnapshotRefused
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED, SnapshotManifest
from penstock.settings import Settings


@dataclass(frozen=True)
class Validation:
    """What became of a snapshot's rows.

    `good`: records.EVENT_COLUMNS, late rows included. `bad`: the same columns and `reasons` (list of text). `reasons`:
    why the whole snapshot is refused. `docs`: the first page of the Data Docs. `late`: the good rows older than the
    window. `counts`: rows by the rule they break. `notes`: what could not be judged, and why.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    refused: bool
    reasons: list[str]
    docs: Path | None
    late: pl.DataFrame
    counts: dict[str, int]
    notes: list[str]


def validate_snapshot(
    events: pl.DataFrame,
    manifest: SnapshotManifest,
    catalogue_ids: Collection[str],
    settings: Settings,
    recent: list[SnapshotManifest],
    docs_dir: Path | None,
    drift: Sequence[WindowRule] = (),
) -> Validation:
    """Judge every row of a snapshot, then the snapshot.

    Args:
        events: columns of records.EVENT_COLUMNS.
        catalogue_ids: ids of the items that may occur.
        recent: earlier snapshots that were not refused, oldest first (`snapshot.recent_snapshots`).
        docs_dir: folder for the Data Docs; None: none are written.
        drift: further bounds on the whole snapshot (`drift.drift_rules`).

    Raises:
        SchemaError: a column is missing or has another type, or the rows are not as many as the manifest says.
        EmptyWindow: there is no row.
        DataError: a rule could not be computed, or its two forms disagree.
        DependencyMissing: great-expectations is not installed.
    """
    events = _conformed(events, manifest)
    rules = row_rules(manifest, catalogue_ids, settings)
    bounds, notes = window_rules(events, manifest, recent, settings.validation)
    bounds = [*bounds, *drift]
    broken = broken_rows(events, rules)
    counts = broken_counts(broken)
    title = f"snapshot-{manifest.snapshot_id}"
    observed = [pl.lit(float(bound.observed)).alias(bound.column) for bound in bounds if bound.column is not None]
    outcomes, docs = run_suite(
        checked_table(events, catalogue_ids).with_columns(observed),
        rules,
        bounds,
        title,
        docs_dir,
        sum(counts.values()),
    )
    _agree(rules, bounds, counts, outcomes, title)
    refused = refused_rows(broken, rules)
    good, bad = events.filter(~refused), events.filter(refused)
    bad = bad.with_columns(reasons_of(bad, rules, broken.filter(refused)))
    reasons = [bound.reason for bound in bounds if bound.broken]
    reasons += _share_of_bad(len(bad), len(events), counts, rules, settings.validation.max_bad_row_share)
    return Validation(good, bad, bool(reasons), reasons, docs, good.filter(late(manifest)), counts, notes)


def refusal(manifest: SnapshotManifest, validation: Validation) -> SnapshotRefused:
    """The error that stops a round over a refused snapshot."""
    shown = f"; see {validation.docs}" if validation.docs else ""
    return SnapshotRefused(
        f"snapshot {manifest.snapshot_id} ({manifest.rows} rows) is refused and in quarantine: "
        f"{'; '.join(validation.reasons)}{shown}; correct the source or the settings, then replay it"
    )


def _conformed(events: pl.DataFrame, manifest: SnapshotManifest) -> pl.DataFrame:
    where = f"snapshot {manifest.snapshot_id}"
    need_columns(events, EVENT_REQUIRED, where)
    if events.is_empty():
        raise EmptyWindow(
            f"{where} holds no events between {manifest.window_start} and {manifest.window_end}; at least one is "
            "needed; see that events arrive at the journal"
        )
    if len(events) != manifest.rows:
        raise SchemaError(
            f"{where} holds {len(events)} rows, its manifest says {manifest.rows}; read it with read_snapshot, or "
            "replay it"
        )
    return conform(events, EVENT_COLUMNS, (), where)


def _agree(
    rules: list[RowRule],
    bounds: list[WindowRule],
    counts: dict[str, int],
    outcomes: dict[str, Outcome],
    title: str,
) -> None:
    """Two readings of one rule that differ mean that one is wrong, and nobody knows which."""
    found = {rule.name: outcomes[rule.name].broken for rule in rules if rule.name in outcomes}
    expected = {rule.name: counts[rule.name] for rule in rules}
    found |= {bound.name: int(not outcomes[bound.name].success) for bound in bounds if bound.name in outcomes}
    expected |= {bound.name: int(bound.broken) for bound in bounds}
    if found != expected:
        different = {name: (found.get(name), count) for name, count in expected.items() if found.get(name) != count}
        raise DataError(
            f"{title}: Great Expectations and polars count different rows (rule: found, expected): {different}; "
            "nothing of it is learned; report it with the snapshot's id"
        )


def _share_of_bad(bad: int, rows: int, counts: dict[str, int], rules: list[RowRule], limit: float) -> list[str]:
    if bad < rows and bad / rows <= limit:
        return []
    broken = [(counts[rule.name], rule.name) for rule in rules if counts[rule.name] and not rule.marks]
    by_rule = ", ".join(f"{name}: {count}" for count, name in sorted(broken, key=lambda pair: -pair[0]))
    return [
        f"bad rows: found {bad} of {rows} ({bad / rows:.1%}), expected at most {limit:.1%} "
        f"(validation.max_bad_row_share) and one good row; {by_rule}"
    ]
