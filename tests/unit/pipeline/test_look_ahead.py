"""The one unforgivable bug: whatever comes after a moment is scrambled, and no ranking before it may change.

Users, items and times of every event after MOMENT are permuted. MOMENT lies within a window, so that an earlier request
of the same window is judged too. Each test also looks at what comes later, where something must have changed: a
scramble without any effect would prove nothing. A baseline and a feature that do look ahead are caught.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backtest_logs import START, backtest_of, scrambled_after, small_log
from core_bench import small_settings

from penstock.data.dataset import Dataset
from penstock.evaluation.baselines import Popularity
from penstock.evaluation.prequential import RankedRequests
from penstock.features.examples import Refresh, walk
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.candidates import AGAIN, FRESH, POPULAR, TASTE, TOGETHER, Allowed, find_candidates, source_lists
from penstock.inference.engine import RankEngine
from penstock.inference.scorer import UserContext
from penstock.pipeline.backtest import Backtest, engine_of
from penstock.pipeline.backtest_baselines import CONTENDERS, STALE, Made, run_baselines
from penstock.pipeline.backtest_run import warm_up
from penstock.pipeline.backtest_store import BacktestStore
from penstock.pipeline.backtest_track import TrackRun
from penstock.pipeline.contenders import run_contender
from penstock.pipeline.retrain import run_retrain
from penstock.settings import Settings

MOMENT = START + timedelta(minutes=15 * 255 + 1)
SPEC = FeatureSpec.of(small_settings(Path()))
Rankings = dict[int, list[str]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Settings:
    """Four windows, a rival of a few weights."""
    small = {
        "backtest.windows": 4, "baselines.trials": 20, "baselines.tuning_requests": 40,
        "baselines.linear.negatives": 8, "baselines.linear.requests_per_window": 40,
        "baselines.sasrec.width": 8, "baselines.sasrec.length": 8, "baselines.sasrec.epochs": 2,
    }  # fmt: skip
    return small_settings(tmp_path_factory.mktemp("look-ahead"), tiny_encoder, **small)


@pytest.fixture(scope="module")
def logs() -> tuple[Dataset, Dataset]:
    """The log, and the log with its future scrambled."""
    log = small_log(repeats=True)
    return log, scrambled_after(log, MOMENT)


@pytest.fixture(scope="module")
def backtests(logs: tuple[Dataset, Dataset], settings: Settings, graph_cache: Path) -> tuple[Backtest, Backtest]:
    """Both logs under the protocol."""
    return tuple(backtest_of(log, settings, graph_cache) for log in logs)  # type: ignore[return-value]


def split(backtest: Backtest, rankings: Rankings) -> tuple[dict[Any, list[str]], dict[Any, list[str]]]:
    """Rankings by (user, time): up to MOMENT, and after it."""
    sides: tuple[dict[Any, list[str]], dict[Any, list[str]]] = ({}, {})
    for number, items in rankings.items():
        truth = backtest.by_number[number]
        sides[truth.at > MOMENT][truth.user, truth.at] = items
    return sides


def assert_blind(backtests: tuple[Backtest, Backtest], rankings: list[Rankings]) -> None:
    """No ranking up to MOMENT differs; after it, what both logs asked for was ranked differently at least once."""
    (before, after), (before_too, after_too) = map(split, backtests, rankings)
    assert len(before) > 40
    assert before == before_too
    shared = after.keys() & after_too.keys()
    assert any(after[key] != after_too[key] for key in shared) or not shared


def by_number(ranked: RankedRequests) -> Rankings:
    return dict(zip(ranked.request_id, ranked.items, strict=True))


def test_the_scramble_changes_what_follows_and_nothing_before(logs: tuple[Dataset, Dataset]) -> None:
    before, after = (
        [log.events.filter(side).drop("event_id", "received_at") for log in logs]
        for side in (pl.col("at") <= MOMENT, pl.col("at") > MOMENT)
    )
    assert before[0].equals(before[1])
    assert len(after[0]) == len(after[1]) > 50
    for column in ("user_id", "item_id"):
        assert sorted(after[0][column]) == sorted(after[1][column])
        assert after[0][column].to_list() != after[1][column].to_list()


@pytest.mark.parametrize("name", [*CONTENDERS, f"tuned blend{STALE}", f"SASRec{STALE}"])
def test_no_baseline_and_no_rival_looks_ahead(name: str, backtests: tuple[Backtest, Backtest]) -> None:
    rankings = [by_number(run_baselines(backtest, [name])[name]) for backtest in backtests]
    assert_blind(backtests, rankings)


def test_settings_are_chosen_without_the_stream(backtests: tuple[Backtest, Backtest]) -> None:
    chosen = [Made(backtest, ["tuned blend"]).tuned.facts for backtest in backtests]
    assert chosen[0] == chosen[1]
    assert chosen[0]["tuned blend"]["ndcg@10"] > 0


class Peeking(Popularity):
    """Knows how often every item will have been taken in the end."""

    def __init__(self, dataset: Dataset, state: CausalState) -> None:
        super().__init__(len(state.items))
        last = dataset.events.sort("at").tail(40)
        super().update(*(np.zeros(40, np.int64), np.array([state.row_of[i] for i in last["item_id"]]), np.zeros(40)))


def test_a_baseline_that_looks_ahead_is_caught(backtests: tuple[Backtest, Backtest]) -> None:
    rankings = []
    for backtest in backtests:
        contender = Made(backtest, []).counted(Popularity(1))
        contender.baseline = Peeking(backtest.dataset, contender.state)  # type: ignore[attr-defined]
        rankings.append(by_number(run_contender(backtest, contender).ranked))
    with pytest.raises(AssertionError):
        assert_blind(backtests, rankings)


def features_before(backtest: Backtest, refresh: Refresh, leaks: bool = False) -> dict[Any, np.ndarray]:
    """Features of every item for every request up to MOMENT, counters moving as `refresh` says."""
    state = CausalState(FeatureSpec.of(backtest.settings))
    state.add_items(backtest.dataset.catalogue)
    if leaks:
        state.observe_counts(state.batch(backtest.dataset.events))
    rows = np.arange(len(state.items))
    found = {}
    for part in (backtest.warm, *(window.events for window in backtest.windows(None))):
        for asked in walk(state, part, backtest.grouped(part), refresh):
            if asked.request["at"] <= MOMENT:
                key = (asked.request["user_id"], asked.request["at"])
                found[key] = state.features(asked.history, rows, asked.at_s, asked.frozen_NF)
    return found


@pytest.fixture(scope="module", params=["event", "window"])
def features(request: pytest.FixtureRequest, backtests: tuple[Backtest, Backtest]) -> list[dict[Any, np.ndarray]]:
    """Of the log and of the scrambled one."""
    return [features_before(backtest, request.param) for backtest in backtests]


@pytest.mark.parametrize("name", SPEC.names)
def test_no_feature_looks_ahead(name: str, features: list[dict[Any, np.ndarray]]) -> None:
    column = SPEC.names.index(name)
    plain, scrambled = features
    assert plain.keys() == scrambled.keys()
    assert len(plain) > 200
    for key, feature_CF in plain.items():
        assert feature_CF[:, column].tolist() == scrambled[key][:, column].tolist(), (name, key)


def test_a_feature_that_looks_ahead_is_caught(backtests: tuple[Backtest, Backtest]) -> None:
    plain, scrambled = (features_before(backtest, "event", leaks=True) for backtest in backtests)
    column = SPEC.names.index(next(name for name in SPEC.names if name.startswith("popularity")))
    assert any(plain[key][:, column].tolist() != scrambled[key][:, column].tolist() for key in plain)


class Retrieving:
    """A live state and the model of the warm-up, as the candidate sources read them."""

    def __init__(self, state: CausalState, engine: RankEngine) -> None:
        self.state, self.engine = state, engine

    def history_of(self, user: UserContext) -> Any:
        return self.state.histories.of(user.user_id or "")

    def user_vector(self, history: Any, at_s: float) -> Any:
        return self.engine.user_vector(history, self.state.spec.history_length, at_s)

    def nearest(self, vector_E: Any, count: int) -> Any:
        return self.engine.nearest(vector_E, count)


def sources_before(backtest: Backtest) -> dict[Any, dict[str, list[Any]]]:
    """What each source and their union name for every request of the stream up to MOMENT, counters live."""
    state, learner = backtest.warm_up()
    scorer = Retrieving(state, engine_of(learner, backtest.settings, backtest.cache))
    found = {}
    for window in backtest.windows(None):
        for asked in walk(state, window.events, backtest.grouped(window.events), "event"):
            at: datetime = asked.request["at"]
            if at > MOMENT:
                continue
            user = UserContext(user_id=asked.request["user_id"])
            lists = source_lists(scorer, asked.history, asked.at_s, 8)
            union = find_candidates(scorer, user, at, 12, Allowed(state, asked.at_s)).row_C.tolist()
            found[asked.request["user_id"], at] = {**{k: v.tolist() for k, v in lists.items()}, "union": union}
    return found


@pytest.fixture(scope="module")
def sources(backtests: tuple[Backtest, Backtest]) -> list[dict[Any, dict[str, list[Any]]]]:
    """Of the log and of the scrambled one."""
    return [sources_before(backtest) for backtest in backtests]


@pytest.mark.parametrize("source", [POPULAR, FRESH, TOGETHER, AGAIN, TASTE, "union"])
def test_no_candidate_source_looks_ahead(source: str, sources: list[dict[Any, dict[str, list[Any]]]]) -> None:
    plain, scrambled = ({key: lists.get(source) for key, lists in side.items()} for side in sources)
    assert len(plain) > 40
    assert plain == scrambled
    named = [rows for rows in plain.values() if rows]
    assert named or source == FRESH  # no item of this log says when it was published; births are first events
    assert len({tuple(rows) for rows in named}) > 1 or source == FRESH


TUNINGS = ("frozen", "lora", "side_adapter", "bottleneck", "top_layers", "full")


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_model_with_tuned_text_does_not_look_ahead(
    tuning: str, logs: tuple[Dataset, Dataset], settings: Settings, graph_cache: Path, tmp_path: Path
) -> None:
    tuned = settings.override({"text.tuning": tuning, "text.adapter_rank": 2, "training.text_learning_rate": 0.01})
    backtests = tuple(backtest_of(log, tuned, graph_cache) for log in logs)
    rankings = []
    for backtest, folder in zip(backtests, ("plain", "scrambled"), strict=True):
        store = BacktestStore(tmp_path / folder)
        (tmp_path / folder).mkdir()
        warm_up(backtest, store)
        TrackRun(backtest, store, "fresh", set()).run()
        table = pl.read_parquet(tmp_path / folder / "fresh" / "rankings.parquet")
        rankings.append(dict(table.select("request_id", "items").iter_rows()))
    assert_blind(backtests, rankings)  # type: ignore[arg-type]


def test_a_full_retrain_does_not_look_ahead(backtests: tuple[Backtest, Backtest]) -> None:
    rankings = [by_number(run_retrain(backtest, every=1).ranked) for backtest in backtests]
    assert_blind(backtests, rankings)


@pytest.mark.parametrize("run", [lambda backtest: run_retrain(backtest, every=1).ranked])
def test_the_same_log_twice_gives_the_same_rankings(
    run: Callable[[Backtest], RankedRequests], backtests: tuple[Backtest, Backtest]
) -> None:
    assert by_number(run(backtests[0])) == by_number(run(backtests[0]))
