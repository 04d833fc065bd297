"""Windows, and rankings whose quality is worked out by hand."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from core_bench import START, START_S, catalogue, event, random_events, small_settings, table

from penstock.errors import EmptyWindow, SettingsError
from penstock.evaluation.prequential import (
    RankedRequests,
    Ranker,
    cadence_seconds,
    equal_windows,
    sample_requests,
    split_stream,
)
from penstock.features.examples import Asked, Examples
from penstock.features.history import EMPTY
from penstock.features.state import CausalState, FeatureSpec
from penstock.records import REQUEST_COLUMNS


class ByRow:
    """Scores a candidate by its row: the higher the row, the better."""

    def __init__(self) -> None:
        self.calls = 0

    def scores(self, batch: Examples) -> np.ndarray:
        self.calls += 1
        score = batch.row_RC.astype(np.float32)
        score[~batch.mask_RC] = -np.inf
        return score


@pytest.fixture
def state(tmp_path: Path) -> CausalState:
    state = CausalState(FeatureSpec.of(small_settings(tmp_path)))
    state.add_items(catalogue(10))
    return state


def asked(relevant: list[str], shown: list[str] | None = None, user: str = "u") -> Asked:
    request: dict[str, Any] = {"user_id": user, "shown": shown or [], "relevant": relevant}
    return Asked(request, START_S, EMPTY, None)


def ranked(state: CausalState, *requests: Asked, rows: int = 10) -> RankedRequests:
    out = RankedRequests()
    ranker = Ranker(state, ByRow(), out, lambda _: np.arange(rows))
    for number, one in enumerate(requests):
        ranker.ask(number, one)
    ranker.finish()
    ranker.finish()
    return out


@pytest.mark.parametrize(("text", "value"), [("15m", 900.0), ("1h", 3600.0), ("0.5d", 43200.0)])
def test_cadences(text: str, value: float) -> None:
    assert cadence_seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "15", "15s", "-1h", "0d", "fresh"])
def test_what_is_no_cadence(text: str) -> None:
    with pytest.raises(SettingsError, match="cadence"):
        cadence_seconds(text)


def test_every_event_of_the_stream_is_in_exactly_one_window() -> None:
    warm, stream = split_stream(random_events(1), 0.6)
    assert warm["at"].max() <= stream["at"].min()  # type: ignore[operator]
    for windows in (equal_windows(stream, 7), equal_windows(stream, length_s=5000.0)):
        ids = [name for window in windows for name in window.events["event_id"]]
        assert sorted(ids) == sorted(stream["event_id"])
        for window in windows[:-1]:
            at_s = window.events["at"].dt.timestamp("us").to_numpy() / 1e6
            assert ((at_s >= window.start_s) & (at_s < window.end_s)).all()
        assert windows[0].end_s > windows[0].start_s
    assert len(equal_windows(stream, 7)) == 7


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_nothing_to_warm_up_with_or_nothing_to_score(warmup: float) -> None:
    with pytest.raises(EmptyWindow):
        split_stream(random_events(1), warmup)


def test_one_event_makes_one_window() -> None:
    assert len(equal_windows(table([event(0, 1.0)]), length_s=60.0)) == 1


def test_quality_by_hand(state: CausalState) -> None:
    out = ranked(state, asked(["i7"]), asked(["i9", "i0"]), asked(["i1"], shown=["i0", "i1", "i2", "gone"]))
    assert out.ndcg[0] == pytest.approx(1 / math.log2(4))
    assert out.mrr == [pytest.approx(1 / 3), 1.0, 0.5]
    assert out.ndcg[1] == pytest.approx((1 + 1 / math.log2(11)) / (1 + 1 / math.log2(3)))
    assert out.auc == [pytest.approx(7 / 9), pytest.approx(0.5), pytest.approx(0.5)]
    assert out.items[2] == ["i2", "i1", "i0"]
    assert out.n_candidates == [10, 10, 3]
    total = math.log(sum(math.exp(n) for n in range(10)))
    assert out.log_loss[0] == pytest.approx(total - 7, rel=1e-5)
    assert out.log_loss[1] == pytest.approx(total - 4.5, rel=1e-5)
    assert out.means()["requests"] == 3.0
    assert out.means()["auc"] == pytest.approx((7 / 9 + 1) / 3)
    assert out.scores().n_relevant.tolist() == [1, 2, 1]


def test_a_relevant_item_that_was_no_candidate_counts_as_missed(state: CausalState) -> None:
    out = ranked(state, asked(["i3", "i9"]), asked(["i9"]), rows=5)
    assert out.auc == [pytest.approx(0.75 / 2), 0.0]
    assert out.ndcg[1] == out.hit[1] == 0.0
    assert out.log_loss[1] == pytest.approx(math.log(5)), "the level of chance"
    assert out.n_candidates == [6, 6]


def test_a_lot_is_ranked_in_several_batches(state: CausalState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.evaluation.prequential.CELLS_HELD", 25)
    engine, out = ByRow(), RankedRequests()
    ranker = Ranker(state, engine, out, lambda _: np.arange(10))
    for number in range(7):
        ranker.ask(number, asked(["i7"], user=f"u{number}"))
    ranker.finish()
    assert engine.calls == 3
    assert out.request_id == list(range(7))
    assert out.user == [f"u{number}" for number in range(7)]
    assert set(out.ndcg) == {out.ndcg[0]}


def test_nothing_ranked_has_no_mean() -> None:
    means = RankedRequests().means()
    assert means["requests"] == 0.0
    assert math.isnan(means["ndcg"])


def test_a_sample_of_requests_is_seeded_useful_and_in_order() -> None:
    rows = [
        {"request_id": f"r{n:03}", "user_id": "u", "at": START + timedelta(hours=n), "relevant": ["i"] if n % 2 else []}
        for n in range(60)
    ]
    requests = pl.DataFrame(rows, schema=REQUEST_COLUMNS)
    assert len(sample_requests(requests, 99, 1)) == 30
    some = sample_requests(requests, 10, 1)
    assert len(some) == 10
    assert some["at"].is_sorted()
    assert some.equals(sample_requests(requests, 10, 1))
    assert not some.equals(sample_requests(requests, 10, 2))
