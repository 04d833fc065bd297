"""The full retrain: the same examples, counters and requests as online learning, the weights made anew."""

from pathlib import Path

import numpy as np
import pytest
from backtest_logs import backtest_of, small_log
from core_bench import small_settings

from penstock.errors import SettingsError
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.retrain import Retrained, run_retrain
from penstock.training.learner import Learner


@pytest.fixture(scope="module")
def backtest(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str, graph_cache: Path) -> Backtest:
    """Four windows."""
    settings = small_settings(tmp_path_factory.mktemp("retrain"), tiny_encoder, **{"backtest.windows": 4})
    return backtest_of(small_log(), settings, graph_cache)


def test_every_retrain_learns_everything_so_far_with_fresh_weights(
    backtest: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[int, int]] = []
    plain = Learner.learn

    def learn(self: Learner, examples: object) -> object:
        learned.append((self.rounds, len(examples)))  # type: ignore[arg-type]
        return plain(self, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "learn", learn)
    found = run_retrain(backtest, every=1)
    assert [rounds for rounds, _ in learned] == [0] * 4
    requests = [len(backtest.grouped(window.events)) for window in backtest.windows(None)]
    assert np.diff([count for _, count in learned]).tolist() == requests[:-1]
    assert sorted(found.ranked.request_id) == sorted(backtest.by_number)
    assert (found.windows, found.at_window) == (4, [0, 1, 2, 3])
    assert len(found.seconds) == 4


def test_a_coarser_cadence_retrains_less_and_ranks_the_same_until_then(backtest: Backtest) -> None:
    each, second = run_retrain(backtest, every=1), run_retrain(backtest, every=2)
    assert second.at_window == [0, 2]
    window_of = {one.number: one.window for one in backtest.truth.values()}
    same = [
        number
        for number, items, others in zip(each.ranked.request_id, each.ranked.items, second.ranked.items, strict=True)
        if items == others
    ]
    assert {number for number, window in window_of.items() if window == 0} <= set(same)
    assert len(same) < len(window_of)


def test_seconds_of_every_window_are_interpolated() -> None:
    found = Retrained(windows=4, every=2, at_window=[0, 2], seconds=[10.0, 14.0])
    assert found.seconds_at_each_window() == pytest.approx(12 + 14 + 14 + 14)


def test_a_cadence_below_one_window_is_refused(backtest: Backtest) -> None:
    with pytest.raises(SettingsError, match="every 0 windows"):
        run_retrain(backtest, 0)
