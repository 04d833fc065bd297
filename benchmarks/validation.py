"""Validation of a million rows: penstock's masks and its whole validation, beside Great Expectations and pandera.

    python benchmarks/validation.py [--rows 1000000]

Every method judges the same rows by the same twelve rules and must name the same broken rows, one in a hundred. Each
runs in a process of its own, so that its memory is its own; peak memory includes the table. Great Expectations and
pandera are given a pandas table, whose making is not counted; penstock is given its polars table, and making pandas of
it for the record is counted. pandera is left out where it is not installed.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import measure
from penstock.data.expectations import validate_snapshot
from penstock.data.rules import RowRule, broken_rows, reasons_of, refused_rows, row_rules
from penstock.records import AT, EVENT_COLUMNS, SnapshotManifest
from penstock.settings import Settings, load_settings

END = datetime(2026, 3, 2, 12, tzinfo=UTC)
ITEMS = [str(number) for number in range(10_000)]
RULES = (
    "user_id given", "received_at given", "event_id once", "kind known", "item known", "value in range",
    "position in range", "propensity in range", "at before the watermark", "user_id length", "request_id length",
    "query length",
)  # fmt: skip
BROKEN_PER_MILLE = 1
"""Rows broken for each of ten rules: one in a hundred in all."""


def events(rows: int) -> pl.DataFrame:
    """Seeded events of one hour, some of them broken in one way each."""
    random = np.random.default_rng(1)
    start_us = int((END - timedelta(hours=1)).timestamp() * 1e6)
    at = pl.Series(start_us + random.integers(0, 3_600_000_000, rows)).cast(AT)
    kinds = np.array(["impression", "click", "purchase"])[random.choice(3, rows, p=[0.9, 0.08, 0.02])]
    table = pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(rows)).cast(pl.String),
            "user_id": pl.Series(random.integers(0, 50_000, rows)).cast(pl.String),
            "item_id": pl.Series(random.integers(0, len(ITEMS), rows)).cast(pl.String),
            "kind": pl.Series(kinds),
            "at": at,
            "value": pl.Series(random.uniform(0, 5, rows)),
            "request_id": pl.Series(random.integers(0, rows // 10 + 1, rows)).cast(pl.String),
            "position": pl.Series(random.integers(0, 10, rows)).cast(pl.Int32),
            "propensity": pl.Series(random.uniform(0.1, 1.0, rows)),
            "query": pl.Series(["rain jacket"] * rows),
            "received_at": at,
        }
    ).select(list(EVENT_COLUMNS))
    changes = {
        "user_id": [None, "u" * 257], "item_id": ["ghost"], "kind": ["clik"], "value": [2e6], "position": [-1],
        "propensity": [1.5], "request_id": ["r" * 257], "query": ["q" * 20_001], "at": [END],
    }  # fmt: skip
    place, row = pl.int_range(rows), 0
    broken = []
    for name, values in changes.items():
        column = pl.col(name)
        for value in values:
            chosen = (place % (1000 // BROKEN_PER_MILLE)) == row
            column, row = pl.when(chosen).then(pl.lit(value, EVENT_COLUMNS[name])).otherwise(column), row + 1
        broken.append(column.alias(name))
    return table.with_columns(broken)


def manifest_of(table: pl.DataFrame) -> SnapshotManifest:
    """The manifest of the hour."""
    start, end = (END - timedelta(hours=1)).isoformat(), END.isoformat()
    return SnapshotManifest("benchmark", "0" * 64, len(table), {}, start, end, end, 0, 0, "")


def twelve(table: pl.DataFrame, settings: Settings) -> list[RowRule]:
    """The rules that every method checks."""
    return [rule for rule in row_rules(manifest_of(table), ITEMS, settings) if rule.name in RULES]


def timed(call: Callable[[], int], repeats: int) -> dict[str, Any]:
    """Five runs, the first one not counted, and the broken rows found."""
    found: list[int] = []
    taken = measure.repeated(lambda: found.append(call()), repeats)
    return {"seconds": taken, "median_s": measure.median(taken), "rows_found": found[-1], "peak_gb": measure.peak_gb()}


def penstock_masks(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """The masks alone: every broken row."""
    rules = twelve(table, settings)
    return timed(lambda: int(refused_rows(broken_rows(table, rules), rules).sum()), repeats)


def penstock_reasons(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """Masks, and every reason of every broken row in words."""
    rules = twelve(table, settings)

    def found() -> int:
        broken = broken_rows(table, rules)
        refused = refused_rows(broken, rules)
        return len(reasons_of(table.filter(refused), rules, broken.filter(refused)))

    return timed(found, repeats)


def penstock_whole(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """All of `row_rules` in both forms, their agreement, reasons and Data Docs."""
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) / "data-docs"
        manifest = manifest_of(table)
        figures = timed(lambda: len(validate_snapshot(table, manifest, ITEMS, settings, [], docs).bad), repeats)
    return figures | {"rules": len(row_rules(manifest, ITEMS, settings))}


def great_expectations_summary(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """Plain Great Expectations on pandas: counts only, no docs."""
    return _great_expectations(table, settings, repeats, "SUMMARY")


def great_expectations_complete(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """Plain Great Expectations on pandas that lists every broken row, no docs."""
    return _great_expectations(table, settings, repeats, "COMPLETE")


def _great_expectations(table: pl.DataFrame, settings: Settings, repeats: int, form: str) -> dict[str, Any]:
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    frame, e = table.with_row_index("row").to_pandas(), gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("events")
    suite = gx.ExpectationSuite(
        name="twelve",
        expectations=[
            e.ExpectColumnValuesToNotBeNull(column="user_id"),
            e.ExpectColumnValuesToNotBeNull(column="received_at"),
            e.ExpectColumnValuesToBeUnique(column="event_id"),
            e.ExpectColumnValuesToBeInSet(column="kind", value_set=list(settings.data.gains)),
            e.ExpectColumnValuesToBeInSet(column="item_id", value_set=ITEMS),
            e.ExpectColumnValuesToBeBetween(column="value", min_value=-1e6, max_value=1e6),
            e.ExpectColumnValuesToBeBetween(column="position", min_value=0),
            e.ExpectColumnValuesToBeBetween(column="propensity", min_value=0, strict_min=True, max_value=1),
            e.ExpectColumnValuesToBeBetween(column="at", max_value=END, strict_max=True),
            e.ExpectColumnValueLengthsToBeBetween(column="user_id", max_value=256),
            e.ExpectColumnValueLengthsToBeBetween(column="request_id", max_value=256),
            e.ExpectColumnValueLengthsToBeBetween(column="query", max_value=20_000),
        ],
    )
    batch, suite = asset.add_batch_definition_whole_dataframe("whole"), context.suites.add(suite)
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="twelve", data=batch, suite=suite))
    listed = form == "COMPLETE"
    options: Any = {"result_format": form, "unexpected_index_column_names": ["row"]} if listed else form

    def found() -> int:
        result = definition.run(batch_parameters={"dataframe": frame}, result_format=options)
        if not listed:
            return sum(int(one.result["unexpected_count"]) for one in result.results)
        return len({place["row"] for one in result.results for place in one.result.get("unexpected_index_list") or []})

    return timed(found, repeats)


def pandera_lazy(table: pl.DataFrame, settings: Settings, repeats: int) -> dict[str, Any]:
    """pandera on pandas, lazily, so that it names every broken row."""
    import pandera.pandas as pa

    frame, check = table.to_pandas(), pa.Check
    short = check.str_length(max_value=256)
    schema = pa.DataFrameSchema(
        {
            "event_id": pa.Column(unique=True),
            "user_id": pa.Column(checks=short, nullable=False),
            "item_id": pa.Column(checks=check.isin(ITEMS)),
            "kind": pa.Column(checks=check.isin(list(settings.data.gains))),
            "at": pa.Column(checks=check.lt(END)),
            "value": pa.Column(checks=check.in_range(-1e6, 1e6), nullable=True),
            "request_id": pa.Column(checks=short, nullable=True),
            "position": pa.Column(checks=check.ge(0), nullable=True),
            "propensity": pa.Column(checks=check.in_range(0, 1, include_min=False), nullable=True),
            "query": pa.Column(checks=check.str_length(max_value=20_000), nullable=True),
            "received_at": pa.Column(nullable=False),
        }
    )

    def found() -> int:
        try:
            schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            return int(error.failure_cases["index"].nunique())
        return 0

    return timed(found, repeats)


METHODS: dict[str, Callable[[pl.DataFrame, Settings, int], dict[str, Any]]] = {
    "penstock, masks of 12 rules": penstock_masks,
    "penstock, masks and reasons of 12 rules": penstock_reasons,
    "penstock, whole validation with Data Docs": penstock_whole,
    "Great Expectations, 12 rules, counts": great_expectations_summary,
    "Great Expectations, 12 rules, every broken row": great_expectations_complete,
    "pandera, 12 rules, every broken row": pandera_lazy,
}


def main() -> None:
    """Measure each method in a process of its own, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=measure.REPEATS)
    parser.add_argument("--method", choices=METHODS, help="measure this one here and print it as JSON")
    options = parser.parse_args()
    if options.method:
        settings = load_settings(Path(__file__).parents[1] / "params.yaml", {})
        print(json.dumps(METHODS[options.method](events(options.rows), settings, options.repeats)))
        return
    figures: dict[str, Any] = {"rows": options.rows, "polars_threads": pl.thread_pool_size(), "methods": {}}
    for name in METHODS:
        if name.startswith("pandera") and find_spec("pandera") is None:
            measure.note("pandera is not installed; left out")
            continue
        measure.note(name)
        sizes = ["--rows", str(options.rows), "--repeats", str(options.repeats)]
        command = [sys.executable, "-W", "ignore", __file__, "--method", name, *sizes]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures["methods"][name] = json.loads(done.stdout.splitlines()[-1])
    measure.save("validation", figures)


if __name__ == "__main__":
    main()
