"""Diversity and exploration: lists against worked-out ones, propensities against what happens in many draws."""

import numpy as np
import pytest

from penstock.serving.placing import best_first, diversified, epsilon_greedy, thompson


def test_diversity_worked_out_by_hand() -> None:
    score_C = np.array([3.0, 2.9, 1.0, 0.0])
    unit_CE = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert diversified(score_C, unit_CE, 4, 0.0).tolist() == [0, 1, 2, 3]
    # Deviation 1.27: after 0, its twin has 0.7 * 0.93 - 0.3 = 0.35, the third 0.7 * -0.57 = -0.40; at 0.6 they turn.
    assert diversified(score_C, unit_CE, 2, 0.3).tolist() == [0, 1]
    assert diversified(score_C, unit_CE, 2, 0.6).tolist() == [0, 2]
    assert diversified(np.ones(3), unit_CE[:3], 9, 0.5).tolist() == [0, 2, 1]


def test_epsilon_shows_what_its_propensities_say() -> None:
    random = np.random.default_rng(1)
    greedy_K, reserve_R, draws = np.array([4, 7]), np.array([0, 1, 2, 3]), 20_000
    seen = np.zeros((2, 10))
    for _ in range(draws):
        placed = epsilon_greedy(greedy_K, reserve_R, 0.4, random)
        assert len(set(placed.place_K.tolist())) == 2
        seen[[0, 1], placed.place_K] += 1
        expected = [0.6 if item in (4, 7) else 0.1 for item in placed.place_K.tolist()]
        assert placed.propensity_K.tolist() == pytest.approx(expected)
    assert seen[0] / draws == pytest.approx([0.1] * 4 + [0.6] + [0] * 5, abs=0.015)
    assert seen[1] / draws == pytest.approx([0.1] * 4 + [0] * 3 + [0.6] + [0] * 2, abs=0.015)


def test_without_a_reserve_nothing_is_explored() -> None:
    placed = epsilon_greedy(np.array([2, 1]), np.array([0]), 0.9, np.random.default_rng(1))
    assert placed.place_K.tolist() == [2, 1]
    assert placed.propensity_K.tolist() == [1.0, 1.0]


def test_thompson_explores_what_was_shown_seldom() -> None:
    random = np.random.default_rng(2)
    score_M, shown_M = np.array([1.0, 0.9, 0.9]), np.array([9000.0, 9000.0, 0.0])
    chosen_M = shown_M * 0.1
    tops, stated = np.zeros(3), np.zeros(3)
    for _ in range(400):
        placed = thompson(score_M, chosen_M, shown_M, 0.1, 0.3, 2, random)
        tops[placed.place_K[0]] += 1
        stated[placed.place_K[0]] += placed.propensity_K[0]
    assert tops[2] > 60, "never shown: its rate may be anything"
    assert tops[1] < 30, "known to be a little worse"
    mean_stated = stated / np.maximum(tops, 1)
    assert mean_stated[[0, 2]] == pytest.approx(tops[[0, 2]] / 400, abs=0.06)


def test_a_propensity_is_never_zero_and_equal_scores_go_in_order() -> None:
    placed = thompson(np.array([50.0, 0.0]), np.zeros(2), np.full(2, 1e6), 0.1, 0.1, 5, np.random.default_rng(0))
    assert placed.place_K.tolist() == [0, 1]
    assert (placed.propensity_K > 0.9).all()
    assert best_first(np.zeros(5), 3).tolist() == [0, 1, 2]
