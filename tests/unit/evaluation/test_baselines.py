"""Each baseline against values worked out by hand and against its slow, obvious form."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import DataError, SettingsError
from penstock.evaluation.baselines import (
    Baseline,
    CoOccurrence,
    DecayedPopularity,
    Ease,
    NewcomerPopularity,
    OwnRepeats,
    Popularity,
)

HOUR = 3600.0
NONE = np.zeros(0, np.int64)
MAKERS: dict[str, Callable[[int], Baseline]] = {
    "popularity": Popularity,
    "decayed popularity": lambda n: DecayedPopularity(n, 2.0),
    "own repeats": lambda n: OwnRepeats(n, 2.0, 5.0),
    "newcomers' popularity": lambda n: NewcomerPopularity(n, 6),
    "co-occurrence": lambda n: CoOccurrence(n, 2.0, recent=3),
    "EASE": lambda n: Ease(n, 1.0),
}


def feed(model: Baseline, *events: tuple[int, int, float]) -> None:
    user, item, hours = zip(*events, strict=True)
    model.update(np.array(user), np.array(item), np.array(hours) * HOUR)


def random_log(n_events: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, n_events), rng.integers(0, 8, n_events), np.sort(rng.random(n_events)) * 20 * HOUR


def test_popularity_counts() -> None:
    model = Popularity(3)
    feed(model, (0, 1, 0), (1, 1, 1), (1, 2, 2))
    assert model.scores(0, NONE, 0.0).tolist() == [0, 2, 1]


def test_decayed_popularity_halves_every_half_life() -> None:
    model = DecayedPopularity(2, half_life_h=2.0)
    feed(model, (0, 0, 0), (0, 0, 2))
    assert model.scores(0, NONE, 0.0).tolist() == pytest.approx([1.5, 0.0])
    feed(model, (0, 1, 6))
    assert model.scores(0, NONE, 0.0).tolist() == pytest.approx([0.375, 1.0])


def test_newcomers_popularity_counts_the_first_events_of_each_user() -> None:
    model = NewcomerPopularity(4, first=2)
    feed(model, (0, 1, 0), (1, 1, 1), (0, 2, 2), (0, 3, 3))
    feed(model, (1, 3, 4), (1, 3, 5), (0, 0, 6))
    assert model.scores(7, NONE, 0.0).tolist() == [0, 2, 1, 1]


def test_own_repeats_rank_before_everything_and_back_off_to_popularity() -> None:
    model = OwnRepeats(4, half_life_h=100.0)
    feed(model, *[(9, 3, hour) for hour in range(50)], (9, 2, 50))
    assert np.argsort(-model.scores(0, np.array([0, 1, 1]), 0.0)).tolist() == [1, 0, 3, 2]
    assert np.argsort(-model.scores(0, NONE, 0.0), kind="stable").tolist()[:2] == [3, 2]


def test_recent_repeats_weigh_more_with_a_half_life() -> None:
    model = OwnRepeats(2, 100.0, half_life_events=1.0)
    assert model.scores(0, np.array([0, 1]), 0.0) == pytest.approx([0.5, 1.0])


def test_cooccurrence_by_hand() -> None:
    model = CoOccurrence(3, half_life_h=1e9, half_life_events=None, row_power=1, column_power=0)
    feed(model, (0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (2, 0, 4), (2, 2, 5))
    # Item 0 stood beside 1 twice and beside 2 once.
    assert model.scores(5, np.array([0]), 0.0) == pytest.approx([0, 2 / 3, 1 / 3], abs=1e-5)
    model.row_power = model.column_power = 0.5
    assert model.scores(5, np.array([0]), 0.0) == pytest.approx([0, 2 / 6**0.5, 1 / 3**0.5], abs=1e-5)


def test_cooccurrence_equals_the_plain_loop_across_windows() -> None:
    user_E, item_E, at_s_E = random_log(120)
    model = CoOccurrence(8, half_life_h=5.0, recent=3)
    for window in np.split(np.arange(120), [30, 31, 90]):
        model.update(user_E[window], item_E[window], at_s_E[window])
    expected = np.zeros((8, 8))
    for late in range(120):
        earlier = [row for row in range(late) if user_E[row] == user_E[late]][-3:]
        for early in earlier:
            if item_E[early] != item_E[late]:
                weight = 0.5 ** ((at_s_E[-1] - at_s_E[late]) / (5 * HOUR))
                expected[item_E[early], item_E[late]] += weight
                expected[item_E[late], item_E[early]] += weight
    assert model.pair_NN.toarray() == pytest.approx(expected)


def test_ease_equals_the_textbook_inverse() -> None:
    user_E, item_E, at_s_E = random_log(60)
    model = Ease(8, l2=2.0)
    model.update(user_E[:20], item_E[:20], at_s_E[:20])
    model.scores(0, np.array([1]), 0.0)
    model.update(user_E[20:], item_E[20:], at_s_E[20:])
    had = np.zeros((6, 8))
    had[user_E, item_E] = 1
    inverse = np.linalg.inv(had.T @ had + 2.0 * np.eye(8))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    assert model.scores(0, np.array([1, 4, 4]), 0.0) == pytest.approx(weight[1] + weight[4])


def test_ease_refuses_more_items_than_it_may_invert() -> None:
    model = Ease(8, 1.0, max_items=2)
    feed(model, (0, 0, 0), (0, 1, 1), (0, 2, 2))
    with pytest.raises(SettingsError, match="3 items, at most 2"):
        model.scores(0, NONE, 0.0)


@pytest.mark.parametrize("name", list(MAKERS))
class TestEveryBaseline:
    def test_carries_its_name_and_scores_every_item(self, name: str) -> None:
        model = MAKERS[name](8)
        assert model.name == name
        for history in (NONE, np.array([3, 3, 7])):
            score_N = model.scores(99, history, 0.0)
            assert (score_N.shape, score_N.dtype) == ((8,), np.float64)
            assert np.isfinite(score_N).all()
        model.update(NONE, NONE, np.zeros(0))
        model.update(*random_log(50))
        assert np.isfinite(model.scores(99, np.array([3, 3, 7]), 0.0)).all()

    @given(cuts=st.lists(st.integers(0, 80), max_size=5))
    @settings(max_examples=15, deadline=None)
    def test_windows_do_not_matter(self, name: str, cuts: list[int]) -> None:
        """Counting events in one window or in many gives the same scores."""
        columns = random_log(80)
        whole, parts = MAKERS[name](8), MAKERS[name](8)
        whole.update(*columns)
        for window in np.split(np.arange(80), sorted(cuts)):
            parts.update(*(column[window] for column in columns))
        for user, history in enumerate([NONE, np.array([1, 2]), np.array([5, 5, 0, 6, 1])]):
            score_N = whole.scores(user, history, 1e5)
            assert parts.scores(user, history, 1e5) == pytest.approx(score_N, rel=1e-6, abs=1e-12)

    def test_scoring_changes_nothing_and_scores_may_be_written_to(self, name: str) -> None:
        model = MAKERS[name](8)
        model.update(*random_log(50))
        before = model.scores(0, np.array([1, 2]), 0.0).copy()
        for history in (NONE, np.array([1, 2])):
            model.scores(0, history, 0.0)[:] = -1
        assert model.scores(0, np.array([1, 2]), 0.0).tolist() == before.tolist()

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (([0], [8], [0.0]), "item rows 8..8, expected 0..7"),
            (([0], [-1], [0.0]), "item rows -1..-1"),
            (([0, 0], [1, 1], [5.0, 4.0]), "not in order"),
            (([0], [1], [np.nan]), "not finite"),
            (([0, 1], [1], [0.0]), "2 users, 1 items, 1 times"),
        ],
    )
    def test_events_that_do_not_fit_are_refused(self, name: str, columns, message: str) -> None:
        user, item, at_s = columns
        with pytest.raises(DataError, match=message):
            MAKERS[name](8).update(np.array(user), np.array(item), np.array(at_s))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DecayedPopularity(2, 0.0),
        lambda: NewcomerPopularity(2, 0),
        lambda: OwnRepeats(2, 1.0, 0.0),
        lambda: CoOccurrence(2, -1.0),
        lambda: Ease(2, 0.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Baseline]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        make()
