"""The backtest's three files: whole, self-contained, and honest about what the interval allows."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from penstock.errors import GateError
from penstock.evaluation.comparison import Bootstrap, RequestMetrics, curve, summarise
from penstock.evaluation.curves import running_gain, smooth
from penstock.evaluation.report import gain_sentence, write_backtest_report

WINDOWS = 6
WINDOW_R = np.sort(np.random.default_rng(1).integers(0, WINDOWS, 60))
AT = [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).isoformat() for hour in range(WINDOWS)]


def methods() -> dict[str, RequestMetrics]:
    rng = np.random.default_rng(0)
    base_R = rng.random(60) * 0.5
    user_R = np.array([f"u{row % 20}" for row in range(60)])

    def shifted(by: float) -> RequestMetrics:
        value_R = base_R + by
        return RequestMetrics(np.arange(60), user_R, value_R, value_R, value_R, value_R)

    return {"fresh": shifted(0.2), "never": shifted(0.1), "popularity": shifted(0.0)}


def written(tmp_path, fresh: str | None = "fresh", stale: str | None = "never"):
    found = methods()
    few = {name: part.where(np.arange(60) < 0) for name, part in found.items()}
    summary = summarise(
        found,
        {"unseen <items>": few, "new users": found},
        {"fresh": 12.5, "never": 2.5},
        {"data": "market", "seed": 7},
        Bootstrap(200, 7, 0.9),
        fresh,
        stale,
    )
    return write_backtest_report(tmp_path, {name: curve(part, WINDOW_R, AT) for name, part in found.items()}, summary)


def test_the_three_files(tmp_path) -> None:
    files = written(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "report.html", "summary.json"]
    assert files.picture.read_bytes().startswith(b"\x89PNG")
    summary = json.loads(files.summary.read_text())
    assert summary["freshness"]["ndcg@10"] == pytest.approx(0.1)
    assert sum(row["requests"] for row in summary["curves"]["fresh"]) == 60


def test_the_page_says_what_freshness_brings_and_costs(tmp_path) -> None:
    html = written(tmp_path).page.read_text()
    assert "“fresh” beats “never”: NDCG@10 +0.1000" in html
    assert "90% interval" in html
    assert "“fresh” beats “popularity”: NDCG@10 +0.2000" in html
    assert "No request, so nothing can be said." in html
    assert "5.0×" in html
    assert "unseen &lt;items&gt;" in html
    assert "http" not in html
    assert "<script" not in html


def test_without_a_stale_run_the_page_claims_no_gain(tmp_path) -> None:
    html = written(tmp_path, stale=None).page.read_text()
    assert "the gain of freshness is not known" in html
    assert "“never”:" not in html
    assert "“fresh” beats “popularity”" in html


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "beats"),
        (-0.03, -0.01, "loses to"),
        (-0.01, 0.03, "cannot be told apart"),
        (None, None, "single user"),
    ],
)
def test_the_sentence_follows_the_interval(low: float | None, high: float | None, words: str) -> None:
    gap = {"ndcg@10": 0.01, "low": low, "high": high, "relative": None, "requests": 5, "users": 3}
    assert words in gain_sentence(gap, "fresh", "never", 0.95)


def test_figures_that_are_not_finite_and_empty_streams_are_errors(tmp_path) -> None:
    found = methods()
    summary = summarise(found, {}, {}, {"note": float("nan")}, Bootstrap(200, 7, 0.9), "fresh", "never")
    with pytest.raises(GateError, match="not finite"):
        write_backtest_report(tmp_path, {"fresh": curve(found["fresh"], WINDOW_R, AT)}, summary)
    with pytest.raises(GateError, match="no window has a request"):
        write_backtest_report(tmp_path, {"fresh": []}, summary)
    assert not list(tmp_path.iterdir())


def test_smoothing_weighs_windows_by_their_requests() -> None:
    assert smooth(np.array([0.0, 1.0, 0.0]), np.array([1.0, 3.0, 1.0]), 3) == pytest.approx([0.75, 0.6, 0.75])
    assert smooth(np.array([0.5]), np.array([4.0])) == pytest.approx([0.5])


def test_running_gain_is_over_all_requests_so_far() -> None:
    fresh = [{"ndcg": 0.5, "requests": 1}, {"ndcg": 0.2, "requests": 3}]
    stale = [{"ndcg": 0.1, "requests": 1}, {"ndcg": 0.2, "requests": 3}]
    assert running_gain(fresh, stale) == pytest.approx([0.4, 0.1])


def test_windows_without_requests_are_left_out_and_times_may_be_seconds(tmp_path) -> None:
    row = {"window": 0.0, "at": 1_767_225_600.0, "ndcg": 0.5, "hr": 0.5, "mrr": 0.5, "recall": 0.5, "requests": 4.0}
    empty = row | {"window": 1.0, "ndcg": float("nan"), "requests": 0.0}
    found = methods()
    summary = summarise(found, {}, {"fresh": 1.0}, {}, Bootstrap(200, 7, 0.9), "fresh", None)
    files = write_backtest_report(tmp_path, {"fresh": [row, empty], "popularity": [empty]}, summary)
    curves = json.loads(files.summary.read_text())["curves"]
    assert [(kept["window"], kept["at"]) for kept in curves["fresh"]] == [(0, "2026-01-01T00:00:00+00:00")]
    assert curves["popularity"] == []
