"""Frozen content, the blend and the search for its weights, against values worked out by hand."""

import numpy as np
import pytest

from penstock.errors import DataError, SettingsError
from penstock.evaluation.baselines import Blend, FrozenContent, Popularity, Weighting
from penstock.evaluation.baselines.blend import shaped, share_of
from penstock.evaluation.baselines.search import (
    Recorded,
    ndcg_at_10,
    record,
    search_weighting,
    variant_ndcg,
)
from penstock.metrics import ndcg_at

NONE = np.zeros(0, np.int64)


class Fixed:
    """Scores that are given, whatever happens."""

    name = "fixed"

    def __init__(self, *scores: float) -> None:
        self.score_N = np.array(scores)
        self.counted = 0

    def update(self, user_E, item_E, at_s_E) -> None:
        self.counted += len(item_E)

    def scores(self, user, history_L, at_s):
        return self.score_N.copy()


class TestFrozenContent:
    def test_is_the_cosine_with_the_decayed_mean_of_the_last_items(self) -> None:
        text = np.array([[2, 0], [0, 3], [1, 1]], np.float32)
        model = FrozenContent(text, recent=2, half_life_events=1.0)
        # Items 0 then 1: (0.5, 1) over its length; item 2 stands at 45 degrees. The first of the three is too old.
        user = np.array([0.5, 1.0]) / 1.25**0.5
        assert model.scores(0, np.array([2, 0, 1]), 0.0) == pytest.approx([user[0], user[1], user.sum() / 2**0.5])

    def test_a_stranger_gets_zeros(self) -> None:
        assert FrozenContent(np.ones((3, 2), np.float32), 5, 3.0).scores(0, NONE, 0.0).tolist() == [0, 0, 0]

    def test_vectors_and_settings_that_make_no_sense_are_refused(self) -> None:
        with pytest.raises(DataError, match="1 of 2 text vectors"):
            FrozenContent(np.array([[1, 1], [np.nan, 0]], np.float32), 5, 3.0)
        with pytest.raises(SettingsError, match="recent is 0"):
            FrozenContent(np.ones((2, 2), np.float32), 0, 3.0)
        with pytest.raises(DataError, match=r"item rows 2\.\.2"):
            FrozenContent(np.ones((2, 2), np.float32), 5, 3.0).update(np.array([0]), np.array([2]), np.array([0.0]))


class TestBlend:
    def test_adds_up_shares_in_their_shapes(self) -> None:
        blend = Blend([Fixed(2, 1, -4), Fixed(0, 5, 10)], Weighting((3.0, 0.5), ("share", "share")))
        assert blend.scores(0, NONE, 0.0) == pytest.approx([3, 1.75, 0.5])

    def test_a_log_shape_runs_over_the_same_range_as_a_share(self) -> None:
        log = shaped(np.array([0.0, 0.5, 1.0]), "log 1e-2")
        assert log[2] - log[0] == pytest.approx(1.0)
        assert log[1] - log[0] > 0.5

    def test_parts_without_weight_are_neither_counted_nor_asked(self) -> None:
        kept, left = Fixed(1, 2), Fixed(2, 1)
        blend = Blend([kept, left], Weighting((1.0, 0.0), ("share", "share")))
        blend.update(np.array([0]), np.array([1]), np.array([0.0]))
        assert (kept.counted, left.counted) == (1, 0)
        assert blend.scores(0, NONE, 0.0).tolist() == [0.5, 1.0]

    def test_parts_without_any_score_count_for_nothing(self) -> None:
        assert share_of(np.zeros(3)).tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("weights", "shapes", "message"),
        [
            ((1.0,), ("share", "share"), "1 weights, 2 shapes"),
            ((1.0, 1.0), ("share", "square"), "shape square unknown"),
            ((0.0, 0.0), ("share", "share"), "at least one above 0"),
        ],
    )
    def test_a_weighting_that_does_not_fit_is_refused(self, weights, shapes, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Blend([Popularity(2), Popularity(2)], Weighting(weights, shapes))


def test_the_search_counts_ndcg_as_the_metrics_do() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        score_C, relevant_C = random.random(30), random.random(30) < 0.2
        relevant_C[3] = True
        n_relevant = int(relevant_C.sum()) + 2
        rank_F = np.flatnonzero(relevant_C[np.argsort(-score_C)]) + 1
        expected = ndcg_at(np.zeros(len(rank_F), np.int64), rank_F, np.array([n_relevant]), 10)[0]
        assert ndcg_at_10(score_C, relevant_C, n_relevant) == pytest.approx(expected)


def test_record_keeps_each_variants_best_candidates() -> None:
    random = np.random.default_rng(1)
    score_VN = [random.random(500), np.arange(500.0)]
    row_C = np.arange(100, 500)
    one = record(score_VN, row_C, {499, 7}, 3)
    assert one.share_VC.shape[0] == 2
    assert 100 <= one.share_VC.shape[1] <= 200
    assert one.share_VC[1].max() == 1.0
    assert (int(one.relevant_C.sum()), one.n_relevant) == (1, 3)  # row 7 is no candidate and still counts
    assert one.relevant_C[np.argmax(one.share_VC[1])]


def noisy(seed: int, count: int = 60) -> list[Recorded]:
    """Requests whose relevant item is the best of variant 1 plus half of variant 2; variant 0 is noise."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        share_VC = random.random((3, 40)).astype(np.float32)
        best = np.argmax(share_VC[1] + 0.5 * share_VC[2])
        out.append(Recorded(share_VC, np.arange(40) == best, 1))
    return out


class TestSearch:
    def test_finds_what_made_the_requests(self) -> None:
        chosen = search_weighting(noisy(0), [[0, 1], [2]], trials=120, seed=3)
        assert chosen.variants == (1, 2)
        assert chosen.ndcg > 0.9
        assert chosen.ndcg > variant_ndcg(noisy(0)).max() + 0.1

    def test_is_the_same_for_the_same_seed(self) -> None:
        first, again = (search_weighting(noisy(0), [[0, 1], [2]], 30, 3) for _ in range(2))
        assert first == again

    def test_never_falls_below_where_it_starts(self) -> None:
        start = search_weighting(noisy(5), [[0], [1], [2]], trials=0, seed=1)
        assert search_weighting(noisy(5), [[0], [1], [2]], trials=40, seed=1).ndcg >= start.ndcg

    def test_nothing_recorded_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="last quarter has no request"):
            search_weighting([], [[0]], 10, 1)
