"""Which rows of a refused snapshot break a rule or are suspect, by the settings and the catalogue as they are now."""

import polars as pl

from penstock.data.dataset import read_dataset
from penstock.data.posted_items import with_posted
from penstock.data.quarantine import Quarantined, of_refused
from penstock.data.rules import broken_rows, reasons_of, refused_rows, row_rules
from penstock.data.snapshot import find_snapshot, read_snapshot
from penstock.data.state import State
from penstock.pipeline.suspicion import suspects
from penstock.settings import Settings


def broken_now(settings: Settings, state: State, refused: Quarantined) -> list[Quarantined]:
    """The rows of a snapshot that is held as a whole, each as an entry under the snapshot's number.

    Raises:
        SchemaError: the snapshot's file, or the catalogue, is not there or was altered.
    """
    manifest, _ = find_snapshot(state, refused.snapshot_id)
    events = read_snapshot(manifest)
    catalogue = with_posted(read_dataset(settings.data.dir, settings.data.max_text_chars).catalogue, state)
    rules = row_rules(manifest, catalogue["item_id"].to_list(), settings)
    broken = broken_rows(events, rules)
    bad = refused_rows(broken, rules)
    rows = events.filter(bad)
    rows = rows.with_columns(reasons_of(rows, rules, broken.filter(bad)))
    return of_refused(refused, pl.concat([rows, suspects(state, settings, manifest, events.filter(~bad))]))
