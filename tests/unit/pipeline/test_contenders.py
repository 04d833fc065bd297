"""Baselines under the protocol: who is a candidate, what is counted when, what is chosen, what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backtest_logs import backtest_of, small_log
from core_bench import small_settings

from penstock.errors import SettingsError
from penstock.evaluation.baselines import Popularity
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.backtest_baselines import CONTENDERS, Made, run_baselines
from penstock.pipeline.baseline_tuning import choosing_backtest, variants_of
from penstock.pipeline.contenders import Counted, empty_state, run_contender
from penstock.settings import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Settings:
    """Four windows, small searches."""
    small = {
        "backtest.windows": 4, "baselines.trials": 20, "baselines.tuning_requests": 40,
        "baselines.linear.negatives": 8, "baselines.linear.requests_per_window": 40,
    }  # fmt: skip
    return small_settings(tmp_path_factory.mktemp("contenders"), tiny_encoder, **small)


@pytest.fixture(scope="module")
def backtest(settings: Settings, graph_cache: Path) -> Backtest:
    """The small log, repeats counting."""
    return backtest_of(small_log(repeats=True), settings, graph_cache)


def popularity(backtest: Backtest) -> Counted:
    return Counted(Popularity(len(backtest.dataset.catalogue)), empty_state(backtest.dataset, backtest.settings))


def expected_popularity(backtest: Backtest, counts_stream: bool) -> dict[int, list[str]]:
    """Worked out anew for every window: items by how many events stood before it, ties in catalogue order."""
    order = {item: place for place, item in enumerate(backtest.dataset.catalogue["item_id"])}
    rankings = {}
    events = backtest.dataset.events
    for window in backtest.windows(None):
        before = events.filter(pl.col("event_id") < window.events["event_id"].min())
        counted = before if counts_stream else backtest.warm
        counts = dict(counted["item_id"].value_counts().iter_rows())
        ranked = sorted(before["item_id"].unique(), key=lambda item: (-counts.get(item, 0), order[item]))
        rankings |= {one.number: ranked for one in backtest.truth.values() if one.window == window.index}
    return rankings


@pytest.mark.parametrize("learns", [True, False])
def test_every_scored_request_is_ranked_from_the_windows_before(backtest: Backtest, learns: bool) -> None:
    ranked = run_contender(backtest, popularity(backtest), learns).ranked
    assert dict(zip(ranked.request_id, ranked.items, strict=True)) == expected_popularity(backtest, learns)


def test_what_a_user_had_is_no_candidate_where_repeats_do_not_count(settings: Settings, graph_cache: Path) -> None:
    backtest = backtest_of(small_log(repeats=False), settings, graph_cache)
    ranked = run_contender(backtest, popularity(backtest)).ranked
    assert len(ranked.items) > 100
    for number, items in zip(ranked.request_id, ranked.items, strict=True):
        truth = backtest.by_number[number]
        had = backtest.dataset.events.filter((pl.col("user_id") == truth.user) & (pl.col("at") < truth.at))
        assert not set(items) & set(had["item_id"])
    assert run_baselines(backtest, ["own repeats"]) == {}


def test_settings_are_chosen_on_the_warm_ups_last_quarter(backtest: Backtest) -> None:
    choosing = choosing_backtest(backtest, requests=40)
    assert choosing.dataset.events.equals(backtest.warm)
    assert len(choosing.stream) == len(backtest.warm) - int(0.75 * len(backtest.warm))
    assert 10 < len(choosing.truth) <= 40
    length = [(b.windows(None)[0].end_s - b.windows(None)[0].start_s) for b in (choosing, backtest)]
    assert length[0] == pytest.approx(length[1], rel=0.5)


def test_only_what_applies_is_chosen_from(settings: Settings, graph_cache: Path) -> None:
    kinds = ["decayed popularity", "own repeats", "EASE", "frozen content"]
    small = backtest_of(small_log(repeats=False), settings.override({"baselines.ease_max_items": 5}), graph_cache)
    assert list(variants_of(small, kinds, None)) == ["decayed popularity"]
    with pytest.raises(SettingsError, match="EASE: 24 items, at most 5"):
        run_baselines(small, ["EASE", "decayed popularity"])


def test_the_blend_is_made_of_what_was_chosen(backtest: Backtest) -> None:
    made = Made(backtest, ["tuned blend"])
    facts = made.tuned.facts
    assert made.facts is facts
    assert facts["tuned blend"]["ndcg@10"] >= max(facts[name]["ndcg@10"] for name in made.tuned.best) - 0.05
    chosen = [variant.setting for variant in made.tuned.parts]
    assert [set(setting) for setting in chosen] == [
        {"half_life_h"}, {"half_life_h", "half_life_events"}, {"half_life_h"}, {"l2"}, {"half_life_events"},
    ]  # fmt: skip


def test_own_repeats_back_off_to_the_decayed_popularity_that_was_chosen(backtest: Backtest) -> None:
    best = Made(backtest, ["own repeats"]).tuned.best
    assert best["own repeats"].setting["half_life_h"] == best["decayed popularity"].setting["half_life_h"]


def test_seconds_and_settings_are_told(backtest: Backtest) -> None:
    facts: dict[str, dict[str, float]] = {}
    ranked = run_baselines(backtest, ["popularity", "decayed popularity, stale", "decayed popularity"], facts)
    assert list(ranked) == ["popularity", "decayed popularity, stale", "decayed popularity"]
    assert min(facts["popularity"].values()) > 0
    assert facts["settings"]["decayed popularity"]["half_life_h"] in backtest.settings.baselines.half_lives_h
    assert ranked["decayed popularity"].items != ranked["decayed popularity, stale"].items


def test_a_name_that_is_none_is_refused_before_anything_runs(backtest: Backtest) -> None:
    with pytest.raises(SettingsError, match="magic, magic, stale unknown, expected some of popularity"):
        run_baselines(backtest, ["popularity", "magic", "magic, stale"])


def test_the_linear_ranker_learns_what_the_log_is_made_of(backtest: Backtest) -> None:
    ranked = run_baselines(backtest, ["online linear ranker", "popularity"])
    linear, plain = (np.mean(ranked[name].ndcg) for name in ("online linear ranker", "popularity"))
    assert linear > plain


def test_every_name_of_the_targets_is_there() -> None:
    expected = ["popularity", "newcomers' popularity", "decayed popularity", "own repeats", "co-occurrence", "EASE"]
    assert list(CONTENDERS) == [*expected, "frozen content", "tuned blend", "online linear ranker", "SASRec"]
