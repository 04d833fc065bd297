"""Each row rule finds its rows and says what it found; the window rules know ordinary life from a fault."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_bench import NOW, event, manifest_for, settings_under, table

from penstock.data.rules import broken_counts, broken_rows, late, reasons_of, row_rules
from penstock.data.window_rules import WindowRule, window_rules
from penstock.records import SnapshotManifest

NAN, INF = float("nan"), float("inf")
SETTINGS = settings_under(Path("var"))
ITEMS = {"i1", "i2"}

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"event_id": None}, "event_id given: found nothing, expected a value in every row"),
    ({"user_id": None}, "user_id given: found nothing, expected a value in every row"),
    ({"received_at": None}, "received_at given: found nothing, expected a value in every row"),
    ({"event_id": "e00000"}, "event_id once: found e00000, expected each id once"),
    (
        {"kind": "clik"},
        "kind known: found clik, expected one of impression, history, click, purchase, rating, label (data.gains)",
    ),
    ({"item_id": "ghost"}, "item known: found ghost, expected an item of the catalogue (2 items)"),
    ({"value": NAN}, "value finite: found NaN, expected a finite number or nothing"),
    ({"value": -INF}, "value finite: found -inf, expected a finite number or nothing"),
    ({"value": 2e6}, "value in range: found 2000000.0, expected between -1e+06 and 1e+06 (validation.max_abs_value)"),
    ({"kind": "rating"}, "rating given: found nothing, expected a value with each rating"),
    ({"kind": "rating", "value": NAN}, "value finite: found NaN, expected a finite number or nothing"),
    (
        {"kind": "rating", "value": 11.0},
        "rating in range: found 11.0, expected between 0 and 10 (validation.rating_min, rating_max)",
    ),
    ({"position": -1}, "position in range: found -1, expected 0 or more"),
    ({"propensity": 0.0}, "propensity in range: found 0.0, expected above 0, at most 1"),
    ({"propensity": 1.1}, "propensity in range: found 1.1, expected above 0, at most 1"),
    ({"propensity": INF}, "propensity finite: found inf, expected a finite number or nothing"),
    (
        {"at": NOW, "received_at": NOW},
        "at before the watermark: found 2026-03-02T12:00:00.000000+00:00, expected before 2026-03-02T12:00:00+00:00",
    ),
    ({"query": "q" * 20_001}, "query length: found 20001 characters, expected at most 20000 characters"),
    ({"user_id": "ü" * 257}, "user_id length: found 257 characters, expected at most 256 characters"),
]


def reasons(rows: list[dict[str, Any]]) -> list[list[str]]:
    events = table(rows)
    return reasons_of(events, row_rules(manifest_for(events), ITEMS, SETTINGS)).to_list()


@pytest.mark.parametrize(("change", "reason"), BROKEN, ids=[reason[:28] for _, reason in BROKEN])
def test_a_broken_row_is_found_and_told(change: dict[str, Any], reason: str) -> None:
    fine, broken, other = reasons([event(0), event(1) | change, event(2)])
    twice = "event_id once" in reason
    assert broken[-1 if not twice else 0] == reason
    assert other == []
    assert fine == ([reason] if twice else [])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rating", "value": 10.0},
        {"kind": "rating", "value": 0.0},
        {"kind": "purchase", "value": -1e6},
        {"position": 0, "propensity": 1.0},
        {"propensity": 1e-9},
        {"at": NOW - timedelta(microseconds=1), "received_at": NOW - timedelta(minutes=5, microseconds=1)},
        {"at": NOW - timedelta(days=3)},
        {"query": "🦉" * 20_000},
    ],
)
def test_what_lies_on_the_edge_is_fine(change: dict[str, Any]) -> None:
    assert reasons([event(1) | change]) == [[]]


def test_the_clock_may_be_ahead_by_the_skew_and_no_more() -> None:
    ahead = {"at": NOW - timedelta(minutes=1), "received_at": NOW - timedelta(minutes=6, microseconds=1)}
    ((found,),) = reasons([event(1) | ahead])
    assert found == (
        "at not ahead of receipt: found 2026-03-02T11:59:00.000000+00:00, expected at most 5 min after received_at "
        "(data.clock_skew_minutes)"
    )


def test_a_row_keeps_all_its_reasons() -> None:
    ((*found,),) = reasons([event(1, item_id="ghost", position=-2, propensity=3.0)])
    assert [reason.split(":")[0] for reason in found] == ["item known", "position in range", "propensity in range"]


def test_a_late_row_is_counted_and_not_bad() -> None:
    events = table([event(1, 59), event(2, 61), event(3, 60)])
    manifest = manifest_for(events, minutes=60)
    rules = row_rules(manifest, ITEMS, SETTINGS)
    assert reasons_of(events, rules).to_list() == [[], [], []]
    assert broken_counts(broken_rows(events, rules))["at within the window"] == 1
    assert events.filter(late(manifest))["event_id"].to_list() == ["e00002"]


def test_without_a_catalogue_every_item_is_unknown() -> None:
    events = table([event(1)])
    ((found,),) = reasons_of(events, row_rules(manifest_for(events), [], SETTINGS)).to_list()
    assert found == "item known: found i1, expected an item of the catalogue (0 items)"


def window(minutes: float, impressions: int, clicks: int) -> tuple[pl.DataFrame, SnapshotManifest]:
    kinds = ["impression"] * impressions + ["click"] * clicks
    events = table([event(number, kind=kind) for number, kind in enumerate(kinds)])
    return events, manifest_for(events, minutes)


def judged(minutes: float, impressions: int, clicks: int, past: SnapshotManifest, times: int = 5) -> list[WindowRule]:
    events, manifest = window(minutes, impressions, clicks)
    rules, _ = window_rules(events, manifest, [past] * times, SETTINGS.validation)
    return rules


PAST = manifest_for(table([event(1)]), 10, rows=1000, counts_by_kind={"impression": 900, "click": 100})


@pytest.mark.parametrize(
    ("minutes", "impressions", "clicks", "refused"),
    [
        (10, 900, 100, []),
        (10, 90, 10, []),  # a tenth of the rows: on the bound
        (10, 89, 10, ["volume"]),
        (0.5, 45, 5, []),  # few rows in a short window, at the usual rate
        (600, 180, 20, []),  # a quiet night: few per minute, but as many as a window has
        (600, 80, 10, ["volume"]),
        (10, 9000, 1000, []),
        (10, 9001, 1000, ["volume"]),
        (600, 54_000, 6_000, []),  # a backlog at the usual rate
        (10, 900, 0, ["clicks"]),
        (10, 100, 0, []),  # eleven clicks expected and a fifth allowed: none is still chance
        (10, 500, 500, ["clicks"]),
        (10, 0, 300, ["clicks"]),
        (10, 105, 15, []),
    ],
)
def test_volume_and_click_rate(minutes: float, impressions: int, clicks: int, refused: list[str]) -> None:
    assert [rule.name for rule in judged(minutes, impressions, clicks, PAST) if rule.broken] == refused


def test_a_refusal_tells_the_numbers() -> None:
    volume, clicks = judged(10, 50, 45, PAST)
    assert volume.reason == (
        "volume: found 95, expected 100 to 10000 (recent snapshots hold 1000 rows, or 1000 for this window's length; "
        "validation.volume_factor is 10)"
    )
    assert clicks.reason == (
        "clicks: found 45, expected 0 to 43 (50 impressions, 0.1111 clicks per impression in recent snapshots; "
        "validation.click_rate_factor is 5)"
    )


def test_too_little_past_is_said_and_not_judged() -> None:
    events, manifest = window(10, 1, 0)
    rules, notes = window_rules(events, manifest, [PAST] * 2, SETTINGS.validation)
    assert rules == []
    assert notes == [
        "volume and click rate not judged: 2 recent snapshots, at least 3 are needed (validation.min_history)"
    ]


def test_a_log_of_positives_has_no_click_rate() -> None:
    events, manifest = window(10, 0, 1000)
    past = replace(PAST, counts_by_kind={"click": 1000})
    rules, notes = window_rules(events, manifest, [past] * 3, SETTINGS.validation)
    assert [rule.name for rule in rules] == ["volume"]
    assert notes == ["click rate not judged: 3000 clicks on 0 impressions in recent snapshots"]


def test_only_the_recent_past_counts() -> None:
    events, manifest = window(10, 900, 100)
    busy = replace(PAST, rows=10**6)
    rules, _ = window_rules(events, manifest, [busy] * 30 + [PAST] * 20, SETTINGS.validation)
    assert not any(rule.broken for rule in rules)


@given(st.lists(st.sampled_from(["a", "b", "é", None, *map(str, range(40))])))
def test_repeated_ids_are_found_through_their_hashes_as_without(ids: list[str | None]) -> None:
    events = pl.DataFrame({"event_id": ids}, schema={"event_id": pl.String})
    rule = next(rule for rule in row_rules(manifest_for(table([])), ITEMS, SETTINGS) if rule.name == "event_id once")
    plain = pl.col("event_id").is_duplicated() & pl.col("event_id").is_not_null()
    assert events.select(rule.broken).to_series().to_list() == events.select(plain).to_series().to_list()
