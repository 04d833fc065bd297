"""Labelling a stream: figures by hand, the page, and what cannot be reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import GateError
from penstock.evaluation.comparison import Bootstrap
from penstock.evaluation.label_report import (
    Guesses,
    freshness_sentence,
    macro_f1,
    summarise_labels,
    write_label_report,
)

PROTOCOL = {"data": "moods", "source": "by <hand>", "texts": 6, "labels": 2, "texts_a_window": 2}


def guesses() -> Guesses:
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    fresh = np.array([right, right, right, wrong], np.float32)
    never = np.array([right, wrong, wrong, wrong], np.float32)
    return Guesses(
        {"fresh": fresh, "never": never}, np.zeros(4, np.int64), np.array([1, 1, 1, 2]), ["2020", "2021"], ["a", "b"]
    )


def test_macro_f1_by_hand() -> None:
    # Label 0: one hit of one guess and two texts, 2/3. Label 1: one of two guesses and one text, 2/3. Label 2: never.
    guess_N, label_N = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2])
    assert macro_f1(guess_N, label_N) == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_means_over_texts_and_over_windows_are_told_apart() -> None:
    summary = summarise_labels(guesses(), Bootstrap(200, 1, 0.95))
    fresh = summary["methods"]["fresh"]
    assert (fresh["accuracy"], fresh["mean_window_accuracy"], fresh["texts"]) == (0.75, 0.5, 4)
    assert fresh["log_loss"] == pytest.approx(-(3 * np.log(0.9) + np.log(0.2)) / 4, abs=1e-6)
    assert [row["accuracy"] for row in summary["curves"]["never"]] == [pytest.approx(1 / 3), 0.0]
    assert summary["freshness"]["accuracy"] == 0.5
    assert "cannot be told from" in freshness_sentence(summary)


def test_summary_and_page_are_written(tmp_path: Path) -> None:
    summary = summarise_labels(guesses(), Bootstrap(200, 1, 0.95)) | {"protocol": PROTOCOL, "compute_s": {"fresh": 1.5}}
    write_label_report(tmp_path, summary)
    assert json.loads((tmp_path / "summary.json").read_text())["methods"]["fresh"]["accuracy"] == 0.75
    page = (tmp_path / "report.html").read_text()
    assert "by &lt;hand&gt;" in page
    assert page.count("<tr>") == 2 + 2 + 2  # two heads, two methods, two windows
    with pytest.raises(GateError, match="not finite"):
        write_label_report(tmp_path, summary | {"compute_s": {"fresh": float("nan")}})
