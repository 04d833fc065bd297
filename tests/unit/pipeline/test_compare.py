"""Fresh beside stale: the same requests, live counters beside frozen ones, nothing from the future."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest

from penstock.data.simulate import simulate
from penstock.errors import EmptyWindow
from penstock.pipeline.compare import Comparison, overall


@pytest.fixture
def comparison(rounds: Any) -> Comparison:
    """Version 1 left stale, at the end of the first part of the log."""
    return Comparison(rounds.shop.settings, rounds.bundle, rounds.shop.dataset.catalogue, None)


def counts(comparison: Comparison, name: str) -> np.ndarray:
    state = getattr(comparison, name).state
    return state.item_features(state.counted_s)


def test_the_stale_versions_counters_stand_still_and_its_histories_move(rounds: Any, comparison: Comparison) -> None:
    events = rounds.shop.part(1)
    user = events["user_id"][-1]
    before_NF = counts(comparison, "_stale").copy()
    known = len(comparison._stale.state.histories.of(user))
    row = comparison.window("second part", "1", rounds.bundle, events)
    np.testing.assert_array_equal(counts(comparison, "_stale"), before_NF)
    assert len(comparison._stale.state.histories.of(user)) > known
    assert not np.array_equal(counts(comparison, "_fresh"), before_NF)
    assert len(row.user_R) == len(row.fresh_R) == len(row.stale_R) > 20
    assert 0 < row.fresh <= 1
    assert 0 < row.stale <= 1
    assert row.possible is None


def test_a_new_champion_is_taken_up_and_the_same_one_goes_on(rounds: Any, comparison: Comparison) -> None:
    second = rounds.shop.settings.registry.artifacts / "bundles" / str(rounds.results[1].bundle_digest)
    comparison.window("second part", "1", rounds.bundle, rounds.shop.part(1))
    seen = comparison._fresh
    comparison.window("third part", "2", second, rounds.shop.part(2).head(400))
    assert comparison._fresh is not seen
    assert comparison._fresh.digest == rounds.results[1].bundle_digest
    seen = comparison._fresh
    comparison.window("the rest", "2", second, rounds.shop.part(2).tail(-400))
    assert comparison._fresh is seen


def test_no_request_is_ranked_by_what_comes_after_it(rounds: Any) -> None:
    shop = rounds.shop
    events = shop.part(1).sort("at", "event_id")
    asked = events.filter(pl.col("kind") == "impression")["request_id"].unique(maintain_order=True).to_list()
    early = events.filter(pl.col("request_id").is_in(asked[: len(asked) // 2]))
    rows = []
    for part in (early, events):
        made = Comparison(shop.settings, rounds.bundle, shop.dataset.catalogue, None)
        rows.append(made.window("part", "1", rounds.bundle, part))
    short, whole = rows
    settled = len(short.user_R) // 2
    np.testing.assert_allclose(whole.stale_R[:settled], short.stale_R[:settled])
    np.testing.assert_allclose(whole.fresh_R[:settled], short.fresh_R[:settled])


def test_the_oracle_is_no_worse_than_either(rounds: Any) -> None:
    shop = rounds.shop
    _, truth = simulate(shop.settings.simulate, 5)
    made = Comparison(shop.settings, rounds.bundle, shop.dataset.catalogue, truth)
    row = made.window("second part", "1", rounds.bundle, shop.part(1))
    assert row.possible is not None
    assert row.possible > max(row.fresh, row.stale)


def test_a_window_without_a_click_and_a_table_without_a_window_are_errors(rounds: Any, comparison: Comparison) -> None:
    shown = rounds.shop.part(1).filter(pl.col("kind") == "impression")
    with pytest.raises(EmptyWindow, match="none of which led to anything"):
        comparison.window("silence", "1", rounds.bundle, shown)
    with pytest.raises(EmptyWindow, match="no round was compared"):
        overall([], rounds.shop.settings)


def test_the_overall_gain_is_the_mean_over_requests_and_says_when_stale_wins(
    rounds: Any, comparison: Comparison
) -> None:
    row = comparison.window("second part", "1", rounds.bundle, rounds.shop.part(1))
    gain, low, high = overall([row, row], rounds.shop.settings)
    assert gain == pytest.approx(row.fresh - row.stale)
    assert low <= gain <= high
    turned = dataclasses.replace(row, fresh_R=np.zeros(len(row.fresh_R)), stale_R=np.ones(len(row.fresh_R)))
    assert overall([turned], rounds.shop.settings) == (-1.0, -1.0, -1.0)
