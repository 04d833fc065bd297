"""Metrics against values worked out by hand, and against a slow plain reference on random data."""

import math

import numpy as np
import pytest

from penstock.errors import GateError
from penstock.metrics import (
    accuracy,
    auc,
    bootstrap_mean,
    class_log_loss,
    hit_rate_at,
    log_loss,
    mrr_at,
    ndcg_at,
    paired_bootstrap,
    recall_at,
    relevant_ranks,
    request_auc,
    request_log_loss,
    request_ranks,
)


def test_ndcg_counts_every_relevant_item_in_the_ideal() -> None:
    # Ranks 1 and 3 found, a third relevant item never ranked: DCG = 1 + 1/2, ideal = 1 + 1/log2(3) + 1/2.
    expected = 1.5 / (1.5 + 1 / math.log2(3))
    assert ndcg_at([0, 0], [1, 3], [3], 10) == pytest.approx([expected])


def test_ndcg_ideal_stops_at_the_depth() -> None:
    assert ndcg_at([0] * 2, [1, 2], [50], 2) == pytest.approx([1.0])
    assert ndcg_at([0], [11], [1], 10) == pytest.approx([0.0])


def test_a_request_of_which_nothing_was_ranked_scores_zero() -> None:
    found = ([1], [2], [1, 2])
    assert ndcg_at(*found, 10) == pytest.approx([0.0, (1 / math.log2(3)) / (1 + 1 / math.log2(3))])
    assert hit_rate_at(*found, 10).tolist() == [0.0, 1.0]
    assert mrr_at(*found, 100).tolist() == [0.0, 0.5]
    assert recall_at(*found, 100).tolist() == [0.0, 0.5]


def test_depth_is_inclusive() -> None:
    assert hit_rate_at([0], [10], [1], 10).tolist() == [1.0]
    assert hit_rate_at([0], [11], [1], 10).tolist() == [0.0]
    assert mrr_at([0], [101], [1], 100).tolist() == [0.0]
    assert recall_at([0, 0], [100, 101], [2], 100).tolist() == [0.5]


def test_ties_count_against_the_relevant_item() -> None:
    assert relevant_ranks([1.0, 1.0, 1.0], [True, False, False]).tolist() == [3]
    assert relevant_ranks([3, 2, 2, 1], [False, True, False, True]).tolist() == [3, 4]


def test_a_masked_candidate_ranks_last() -> None:
    assert relevant_ranks([-np.inf, 0.1, -5.0], [True, False, True]).tolist() == [2, 3]


def test_auc_by_hand() -> None:
    # Pairs (relevant, other): 2 against 3 lost, 2 against 2 tied, 1 lost twice: one half of four.
    assert auc([0, 1, 0, 1], [3, 2, 2, 1]) == 0.125
    assert auc([1, 0], [2, 1]) == 1.0
    assert math.isnan(auc([1, 1], [0, 1]))


def test_log_loss_by_hand() -> None:
    assert log_loss([1, 0], [0.9, 0.2]) == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    assert log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))
    loss_R = request_log_loss([0, 0, 2], [1, 0, 1], [0.5, 0.5, 1.0], 3)
    assert loss_R[0] == pytest.approx(math.log(2))
    assert math.isnan(loss_R[1])
    assert loss_R[2] == pytest.approx(0.0, abs=1e-6)


def test_classification_by_hand() -> None:
    assert class_log_loss([[0.25, 0.75], [0.5, 0.5]], [1, 0]) == pytest.approx([-math.log(0.75), math.log(2)])
    assert accuracy([1, 0, 2], [1, 1, 2]) == pytest.approx(2 / 3)


def _plain_ranks(score: list[float], relevant: list[bool]) -> list[int]:
    order = sorted(range(len(score)), key=lambda index: (-score[index], relevant[index]))
    return [rank for rank, index in enumerate(order, 1) if relevant[index]]


def _plain_auc(score: list[float], relevant: list[bool]) -> float:
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, is_relevant in zip(score, relevant, strict=True)
        if is_relevant
        for b, other in zip(score, relevant, strict=True)
        if not other
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def _plain_scores(ranks: list[int], n_relevant: int) -> tuple[float, float, float, float]:
    dcg = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 10)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(n_relevant, 10)))
    best = min(ranks)
    recall = sum(rank <= 100 for rank in ranks) / n_relevant
    return dcg / ideal, float(best <= 10), 1 / best if best <= 100 else 0.0, recall


def test_flat_metrics_equal_the_plain_reference() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(2, 150, size=60)
    request_N = np.repeat(np.arange(60), sizes)
    score_N = rng.integers(0, 40, size=len(request_N)) / 40  # many ties
    label_N = rng.random(len(request_N)) < 0.1
    label_N[np.searchsorted(request_N, np.arange(60))] = True
    shuffled = rng.permutation(len(request_N))
    request_F, rank_F = request_ranks(request_N[shuffled], label_N[shuffled], score_N[shuffled])
    n_relevant_R = np.bincount(request_N, label_N).astype(int)
    found = (request_F, rank_F, n_relevant_R)
    got = np.stack([ndcg_at(*found, 10), hit_rate_at(*found, 10), mrr_at(*found, 100), recall_at(*found, 100)], axis=1)
    auc_R = request_auc(request_N[shuffled], label_N[shuffled], score_N[shuffled], 60)
    for row in range(60):
        mine = request_N == row
        score, relevant = score_N[mine].tolist(), label_N[mine].tolist()
        assert got[row] == pytest.approx(_plain_scores(_plain_ranks(score, relevant), int(n_relevant_R[row])))
        assert auc_R[row] == pytest.approx(_plain_auc(score, relevant), nan_ok=True)


def test_bootstrap_draws_users_not_requests() -> None:
    # Two users, 50 equal requests each: the mean of a draw is 0, 1/2 or 1, never anything between.
    value_R, user_R = np.repeat([0.0, 1.0], 50), np.repeat(["a", "b"], 50)
    assert bootstrap_mean(value_R, user_R, 500, 7, 0.95) == (0.5, 0.0, 1.0)


def test_bootstrap_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    user_R, value_R = rng.integers(0, 9, size=80), rng.random(80)
    draws = np.random.default_rng(7)
    means = []
    for _ in range(200):
        drawn = draws.integers(9, size=9)
        means.append(np.concatenate([value_R[user_R == user] for user in drawn]).mean())
    expected = [value_R.mean(), *np.percentile(means, [2.5, 97.5])]
    assert bootstrap_mean(value_R, user_R, 200, 7, 0.95) == pytest.approx(expected)


def test_paired_bootstrap_is_narrower_than_the_parts() -> None:
    rng = np.random.default_rng(2)
    user_R, easy_R = np.arange(300) % 60, rng.random(300)
    better_R = easy_R + 0.01
    diff, low, high = paired_bootstrap(better_R, easy_R, user_R, 300, 7, 0.95)
    assert (diff, low, high) == pytest.approx((0.01, 0.01, 0.01))
    assert paired_bootstrap(easy_R, easy_R, user_R, 300, 7, 0.95) == (0.0, 0.0, 0.0)


def test_confidence_widens_the_interval() -> None:
    rng = np.random.default_rng(4)
    value_R, user_R = rng.random(200), np.arange(200)
    _, low_90, high_90 = bootstrap_mean(value_R, user_R, 500, 7, 0.90)
    _, low_99, high_99 = bootstrap_mean(value_R, user_R, 500, 7, 0.99)
    assert low_99 < low_90 < high_90 < high_99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relevant_ranks([math.nan, 1.0], [1, 0]), "1 of 2 scores are NaN"),
        (lambda: ndcg_at([], [], [0, 1], 10), "1 requests without a relevant item"),
        (lambda: ndcg_at([0], [0], [1], 10), "ranks start at 1"),
        (lambda: recall_at([3], [1], [1], 10), "request rows 3..3, expected 0..0"),
        (lambda: log_loss([1], [1.5]), "1 of 1 values are no probability"),
        (lambda: log_loss([1], [math.nan]), "1 of 1 scores are NaN"),
        (lambda: class_log_loss([[1.0, 0.0]], [2]), r"labels 2..2, expected 0..1"),
        (lambda: bootstrap_mean([], [], 100, 7, 0.95), "no values"),
        (lambda: bootstrap_mean([1.0, math.inf], ["a", "b"], 100, 7, 0.95), "1 of 2 values are not finite"),
        (lambda: bootstrap_mean([1.0], ["a", "b"], 100, 7, 0.95), "one user per value"),
        (lambda: paired_bootstrap([math.inf], [math.inf], ["a"], 100, 7, 0.95), "cannot be compared"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0], ["a"], 100, 7, 0.95), "on the same requests"),
    ],
)
def test_what_cannot_be_measured_is_an_error(call, message: str) -> None:
    with pytest.raises(GateError, match=message):
        call()
