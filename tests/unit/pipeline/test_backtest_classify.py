"""The label backtest: what is scored was not learned, its files agree, and the command line finds it by the dataset."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from core_bench import small_settings

from penstock.data.dataset import Dataset, DatasetMeta, write_dataset
from penstock.data.tables import conform
from penstock.errors import EmptyWindow
from penstock.evaluation.label_report import macro_f1
from penstock.pipeline.backtest_classify import FLOOR, LabelBacktest, run_label_backtest
from penstock.records import CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, EVENT_COLUMNS, EVENT_REQUIRED
from penstock.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = ("card", "loan", "transfer")
WORDS = ("lost card", "money to borrow", "sending abroad")


def moods(count: int = 60, turned_at: int = 10_000) -> Dataset:
    """Three labels in turn; from `turned_at` on, what was said of one label means the next."""
    rows = [(n, LABELS[(n + (n >= turned_at)) % 3], f"{WORDS[n % 3]} {n}") for n in range(count)]
    events = pl.DataFrame(
        {
            "event_id": [f"e{n:03d}" for n, _, _ in rows],
            "user_id": ["-"] * count,
            "item_id": [label for _, label, _ in rows],
            "kind": ["label"] * count,
            "at": [START + timedelta(minutes=n) for n, _, _ in rows],
            "query": [text for _, _, text in rows],
        }
    ).with_columns(received_at=pl.col("at"))
    labels = pl.DataFrame({"item_id": LABELS, "title": LABELS})
    meta = DatasetMeta("moods", "classify", True, "positives", ["label"], "by hand")
    return Dataset(
        conform(events, EVENT_COLUMNS, EVENT_REQUIRED, "events"),
        conform(labels, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED, "labels"),
        meta,
    )


@pytest.fixture
def settings(tmp_path: Path, tiny_encoder: str, graph_cache: Path) -> Settings:
    found = small_settings(tmp_path, tiny_encoder, **{"text.tuning": "frozen", "backtest.window_texts": 12})
    graph_cache.mkdir(exist_ok=True)
    found.state.home.mkdir(parents=True)
    (found.state.home / "graphs").symlink_to(graph_cache)
    return found


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def test_files_and_summary_agree(settings: Settings, tmp_path: Path) -> None:
    write_dataset(moods(), tmp_path / "moods")
    steps: list[Any] = []
    summary = run_label_backtest(tmp_path / "moods", tmp_path / "out", settings, None, lambda *step: steps.append(step))
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["event_id"].to_list() == [f"e{n:03d}" for n in range(12, 60)]
    assert table["window"].to_list() == np.repeat([1, 2, 3, 4], 12).tolist()
    assert steps[-1] == ("windows", 4, 4)
    for name in ("fresh", "never", FLOOR):
        found = summary["methods"][name]
        assert found["accuracy"] == (table[name] == table["label"]).mean()
        rows = {label: place for place, label in enumerate(LABELS)}
        guess_N, label_N = (np.array([rows[one] for one in table[column]]) for column in (name, "label"))
        assert found["macro_f1"] == macro_f1(guess_N, label_N)
    assert summary["methods"][FLOOR]["accuracy"] == pytest.approx(1 / 3)
    assert summary["protocol"]["windows_scored"] == 4
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["freshness"] == summary["freshness"]
    assert "moods" in (tmp_path / "out" / "report.html").read_text()


def test_what_comes_later_changes_no_earlier_guess(settings: Settings) -> None:
    """The labels of the third window are turned: the guesses for it and before it stay as they were."""
    runs = [LabelBacktest(moods(turned_at=turned), settings, None).run(quiet) for turned in (10_000, 36)]
    for name in ("fresh", "never"):
        np.testing.assert_array_equal(runs[0][name][:36], runs[1][name][:36])
    np.testing.assert_array_equal(runs[0]["never"], runs[1]["never"])
    assert not np.allclose(runs[0]["fresh"][36:], runs[1]["fresh"][36:])


def test_windows_of_equal_size_and_too_few_texts(settings: Settings) -> None:
    assert [len(part) for part in LabelBacktest(moods(50), settings, 4).parts] == [13, 13, 13, 11]
    with pytest.raises(EmptyWindow, match="12 labelled texts, and the first window alone takes 12"):
        LabelBacktest(moods(12), settings, None)
