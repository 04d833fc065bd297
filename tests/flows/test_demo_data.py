"""The demo's windows lose nothing and change nothing but times; the damage is counted and seeded."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from flows.demo_data import corrupted, little_shown, moved_to_end, named_by, warm_up_and_windows
from penstock.data.dataset import Dataset, DatasetMeta
from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.records import AT, CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import load_settings

ROOT = Path(__file__).parents[2]

START = datetime(2025, 5, 1, tzinfo=UTC)
END = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def log() -> Dataset:
    times = [START + timedelta(hours=hour) for hour in range(100)]
    columns = {
        "event_id": [f"e{n}" for n in range(100)],
        "user_id": ["u"] * 100,
        "item_id": [f"i{n % 7}" for n in range(100)],
        "kind": ["click"] * 100,
        "at": times,
        "received_at": times,
    }
    empty = {name: pl.Series(name, [None] * 100, dtype=kind) for name, kind in EVENT_COLUMNS.items()}
    events = pl.DataFrame(empty | {n: pl.Series(n, v, dtype=EVENT_COLUMNS[n]) for n, v in columns.items()})
    items = {name: pl.Series(name, [None], dtype=kind) for name, kind in CATALOGUE_COLUMNS.items()}
    items |= {"item_id": pl.Series(["i1"]), "title": pl.Series(["one"]), "published_at": pl.Series([START], dtype=AT)}
    return Dataset(events, pl.DataFrame(items), DatasetMeta("t", "rank", True, "positives", ["click"], "test"))


def test_moving_keeps_every_distance(log: Dataset) -> None:
    moved = moved_to_end(log, END)
    assert moved.events["at"].max() == END
    assert moved.events["at"].diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]
    assert moved.events["at"].min() - moved.catalogue["published_at"][0] == timedelta(0)
    assert moved.events.drop("at", "received_at").equals(log.events.drop("at", "received_at"))


def test_windows_and_warm_up_are_the_whole_log_in_order(log: Dataset) -> None:
    warm, windows = warm_up_and_windows(log.events, 0.6, 4)
    assert len(warm) == 60
    assert [len(window) for window in windows] == [10, 10, 10, 10]
    assert pl.concat([warm, *windows])["event_id"].to_list() == log.events["event_id"].to_list()


def test_damage_is_seeded_and_about_as_much_as_asked_for(log: Dataset) -> None:
    damaged = corrupted(log.events, 0.5, seed=7)
    bad = damaged["item_id"].str.starts_with("no-such-item-").sum()
    assert 35 <= bad <= 65
    assert damaged.equals(corrupted(log.events, 0.5, seed=7))
    assert not set(damaged["event_id"]) & set(log.events["event_id"])


def test_events_are_named_as_the_journal_stores_them(log: Dataset, tmp_path: Path) -> None:
    changes = {"data.hash_users": True, "data.user_key_file": str(tmp_path / "users.json")}
    settings = load_settings(ROOT / "params.yaml", {}).override(changes)
    journal = Journal(open_state(f"sqlite:///{tmp_path}/state.db"), settings.data)
    named = named_by(journal, log.events)
    assert named["user_id"].unique().to_list() == [journal.name_of("u")] != ["u"]
    assert named.drop("user_id").equals(log.events.drop("user_id"))


def test_clicks_go_where_the_recommendations_are_thinnest() -> None:
    rows = [{"item_id": f"{name}{n}", "title": "t", "category": name} for name in "abc" for n in range(6)]
    catalogue = pl.DataFrame([*rows, {"item_id": "d0", "category": "d"}], schema=CATALOGUE_COLUMNS)
    meta = DatasetMeta("t", "rank", True, "positives", ["click"], "test")
    data = Dataset(pl.DataFrame(schema=EVENT_COLUMNS), catalogue, meta)
    picked = little_shown(data, {"a0", "b0", "b1"})
    assert picked["category"].unique().to_list() == ["c"], "d is too small to choose five from"
    assert len(picked) == 5
