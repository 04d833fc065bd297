"""Great Expectations and polars find the same rows, bad snapshots are refused, and the docs load nothing remote."""

import random
import re
import socket
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stream_bench import NOW, closed, event, manifest_for, settings_under, table

from penstock.data import expectation_suite
from penstock.data import expectations as module
from penstock.data.data_docs import offline_page
from penstock.data.expectation_suite import run_suite
from penstock.data.expectations import refusal, validate_snapshot
from penstock.data.rules import ROW, checked_table, row_rules
from penstock.data.snapshot import read_snapshot
from penstock.data.state import open_state
from penstock.errors import DataError, EmptyWindow, SchemaError
from penstock.records import EVENT_COLUMNS

NAN, INF = float("nan"), float("inf")
SETTINGS = settings_under(Path("var")).override({"data.max_text_chars": 12})
ITEMS = ["i1", "i2"]

VALUES: dict[str, list[Any]] = {
    "event_id": ["e1", "e2", "é3", "e" * 257, None],
    "user_id": ["u", "v", "ü" * 256, "x" * 257, None],
    "item_id": ["i1", "i2", "ghost", "", "i" * 300, None],
    "kind": ["impression", "click", "rating", "rating", "clik", None],
    "at": [NOW - timedelta(minutes=minutes) for minutes in (-1, 0, 30, 60, 90, 50_000)] + [None],
    "value": [None, NAN, INF, -INF, 0.0, 10.0, 10.5, -0.5, 1e6, -2e6],
    "request_id": [None, "r", "r" * 300],
    "position": [None, -1, 0, 7],
    "propensity": [None, NAN, INF, 0.0, 0.5, 1.0, 1.0001, -0.1],
    "query": [None, "", "short", "ä" * 12, "🦉" * 13],
    "received_at": [NOW - timedelta(minutes=minutes) for minutes in (6, 35, 36, 90)] + [None],
}
ROWS = st.lists(st.fixed_dictionaries({name: st.sampled_from(found) for name, found in VALUES.items()}), min_size=1)


def assert_both_find_the_same(events: pl.DataFrame) -> None:
    """The rows, not only their number, of every rule."""
    rules = row_rules(manifest_for(events), ITEMS, SETTINGS)
    outcomes, _ = run_suite(checked_table(events, ITEMS), rules, [], "s", None)
    found = {name: sorted(outcome.rows) for name, outcome in outcomes.items()}
    numbered = events.with_row_index(ROW)
    assert found == {rule.name: numbered.filter(rule.broken)[ROW].to_list() for rule in rules}
    assert {name: outcome.broken for name, outcome in outcomes.items()} == {k: len(v) for k, v in found.items()}


def test_both_find_the_same_rows_in_a_large_snapshot() -> None:
    draw = random.Random(7)
    rows = [{name: draw.choice(found) for name, found in VALUES.items()} for _ in range(2000)]
    rows = [row | {"event_id": f"e{draw.randrange(1500)}"} if draw.random() < 0.9 else row for row in rows]
    events = pl.DataFrame(rows, schema=EVENT_COLUMNS)
    assert_both_find_the_same(events)
    rules = row_rules(manifest_for(events), ITEMS, SETTINGS)
    counts = module.broken_counts(module.broken_rows(events, rules))
    assert min(counts.values()) > 0, "every rule was broken by some row"


def test_beyond_a_limit_rows_are_counted_alike_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation_suite, "MAX_LISTED", 4)
    events = table(good(5, item_id="ghost"))
    validation = validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)
    assert (validation.counts["item known"], len(validation.bad)) == (5, 5)


@given(ROWS)
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_find_the_same_rows_whatever_they_hold(rows: list[dict[str, Any]]) -> None:
    assert_both_find_the_same(pl.DataFrame(rows, schema=EVENT_COLUMNS))


def good(count: int = 20, **changes: Any) -> list[dict[str, Any]]:
    return [event(number, **changes) for number in range(count)]


def test_good_rows_pass_bad_rows_are_kept_apart_late_rows_are_marked(tmp_path: Path) -> None:
    events = table([*good(18), event(98, 61), event(99, item_id="ghost", propensity=2.0)])
    validation = validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)
    assert not validation.refused
    assert validation.reasons == []
    assert len(validation.good) == 19
    assert validation.good.schema == EVENT_COLUMNS
    assert validation.late["event_id"].to_list() == ["e00098"]
    assert validation.bad.schema == EVENT_COLUMNS | {"reasons": pl.List(pl.String())}
    (bad,) = validation.bad.to_dicts()
    assert bad["event_id"] == "e00099"
    assert [reason.split(":")[0] for reason in bad["reasons"]] == ["item known", "propensity in range"]
    assert {name: count for name, count in validation.counts.items() if count} == {
        "item known": 1,
        "propensity in range": 1,
        "at within the window": 1,
    }
    assert validation.notes == [
        "volume and click rate not judged: 0 recent snapshots, at least 3 are needed (validation.min_history)"
    ]


def test_too_many_bad_rows_refuse_the_snapshot() -> None:
    events = table([*good(15), *[event(50 + number, item_id="ghost") for number in range(5)], event(99, position=-1)])
    validation = validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)
    assert validation.refused
    assert validation.reasons == [
        "bad rows: found 6 of 21 (28.6%), expected at most 20.0% (validation.max_bad_row_share) and one good row; "
        "item known: 5, position in range: 1"
    ]
    assert (len(validation.good), len(validation.bad)) == (15, 6)
    message = str(refusal(manifest_for(events), validation))
    assert message.startswith("snapshot s1 (21 rows) is refused and in quarantine: bad rows: found 6 of 21")
    assert message.endswith("correct the source or the settings, then replay it")


def test_without_one_good_row_nothing_passes() -> None:
    lenient = SETTINGS.override({"validation.max_bad_row_share": 1.0})
    events = table(good(3, item_id="ghost"))
    assert validate_snapshot(events, manifest_for(events), ITEMS, lenient, [], None).refused


def test_a_flood_and_a_silence_of_clicks_are_refused() -> None:
    events = table(good(40, kind="impression"))
    past = manifest_for(events, rows=3, counts_by_kind={"impression": 2, "click": 1})
    busy = [replace(past, rows=2, counts_by_kind={"impression": 5, "click": 5})] * 3
    validation = validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [past] * 3, None)
    assert [reason.split(":")[0] for reason in validation.reasons] == ["volume"]
    validation = validate_snapshot(
        events, manifest_for(events), ITEMS, SETTINGS.override({"validation.click_rate_factor": 1.5}), busy, None
    )
    assert [reason.split(":")[0] for reason in validation.reasons] == ["volume", "clicks"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("kind"), r"snapshot s1: column kind is missing, found event_id, .* rename or map"),
        (lambda rows: rows.with_columns(at=pl.lit("noon")), r"snapshot s1: column at is String, expected Datetime"),
        (lambda rows: rows.with_columns(item_id=pl.lit(7)), r"column item_id is Int32, expected String"),
        (lambda rows: rows.with_columns(position=pl.lit(0.5)), r"column position is Float64, expected Int32"),
        (lambda rows: rows.with_columns(at=pl.col("at").dt.replace_time_zone(None)), r"give the time a zone"),
        (lambda rows: rows.head(2), r"snapshot s1 holds 2 rows, its manifest says 3"),
    ],
)
def test_another_shape_is_a_schema_error(change: Any, message: str) -> None:
    events = table(good(3))
    with pytest.raises(SchemaError, match=message):
        validate_snapshot(change(events), manifest_for(events), ITEMS, SETTINGS, [], None)


def test_an_empty_window_is_an_error() -> None:
    events = table(good(1)).head(0)
    with pytest.raises(EmptyWindow, match=r"snapshot s1 holds no events between 2026-03-02T11:00:00\+00:00 and"):
        validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)


def test_a_disagreement_of_the_two_forms_passes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(manifest: Any, items: Any, settings: Any) -> Any:
        rules = row_rules(manifest, items, settings)
        return [replace(rule, broken=pl.lit(False)) if rule.name == "item known" else rule for rule in rules]

    monkeypatch.setattr(module, "row_rules", wrong)
    events = table(good(3, item_id="ghost"))
    with pytest.raises(DataError, match=r"count different rows .*'item known': \(3, 0\)"):
        validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)


def test_a_rule_that_cannot_be_computed_is_no_pass() -> None:
    events = table(good(3))
    rule = row_rules(manifest_for(events), ITEMS, SETTINGS)[0]
    broken = replace(rule, arguments={"column": "no such column"})
    with pytest.raises(DataError, match=r"could not be computed: .* that is never a pass"):
        run_suite(checked_table(events, ITEMS), [broken], [], "s", None)


def test_great_expectations_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    events = table(good(3))
    validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], None)
    assert list(tmp_path.iterdir()) == []


REMOTE = re.compile(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?https?:|@import""", re.IGNORECASE)


def test_the_docs_tell_the_verdict_and_load_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))
    hostile = "<script>alert(1)</script>"
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    manifest = closed(state, settings, [*good(10), event(99, position=-1), event(98, query="<img src=x onerror=a()>")])
    state.engine.dispose()
    events = read_snapshot(manifest).with_columns(
        kind=pl.when(pl.col("event_id") == "e00001").then(pl.lit(hostile)).otherwise("kind")
    )
    docs = tmp_path / "docs" / manifest.snapshot_id
    for _ in range(2):  # a round that runs again writes them again
        validation = validate_snapshot(events, manifest, ITEMS, settings, [], docs)
    assert validation.docs is not None
    text = validation.docs.read_text(encoding="utf-8")
    assert "Successful Expectations" in text
    assert "kind" in text
    pages = sorted(docs.rglob("*.html"))
    assert len(pages) == 3, "the index, the rules, the result, each once"
    assert {path.suffix for path in docs.rglob("*") if path.is_file()} == {".html"}
    assert [path.name for path in docs.parent.iterdir()] == [docs.name], "no part is left"
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not REMOTE.search(text)
        assert "<script" not in text
        assert "default-src 'none'" in text
        assert "prefers-color-scheme: dark" in text


def test_what_a_page_loads_is_taken_out() -> None:
    page = """<html><head lang="en"><link rel="stylesheet" href="https://cdn/x.css"><style>@import url(//cdn/y)</style>
    <script src='https://cdn/z.js'></script></head><body onload="go()"><a class=x href="https://far">kept</a>
    <a href="#near">near</a><img src="https://cdn/p.png"></body></html>"""
    text = offline_page(page, "b{}")
    assert not REMOTE.search(text)
    assert "onload" not in text
    assert "kept" in text
    assert '<a href="#near">near</a>' in text
    assert "<style>\nb{}</style>" in text


def test_docs_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    events = table(good(3))
    with pytest.raises(DataError, match=r"Data Docs cannot be written to .*file/docs"):
        validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], tmp_path / "file" / "docs")
