"""Softmax regression: its gradient against finite differences, what it learns, what it refuses."""

import numpy as np
import pytest

from penstock.errors import SettingsError
from penstock.evaluation.baselines import SoftmaxRegression

NO_OFFSET = np.zeros(4, np.float32)


def loss_of(weight_F: np.ndarray, x_CF: np.ndarray, relevant_C: np.ndarray, offset_C: np.ndarray) -> float:
    score_C = x_CF @ weight_F + offset_C
    log_chance_C = score_C - np.log(np.exp(score_C).sum())
    return float(-log_chance_C[relevant_C].mean())


def test_a_step_follows_the_gradient_of_the_loss_it_reports() -> None:
    random = np.random.default_rng(0)
    x_CF, offset_C = random.normal(size=(4, 3)), random.normal(size=4)
    relevant_C = np.array([True, False, True, False])
    model = SoftmaxRegression(3, learning_rate=1e-3, l2=0.0)
    model.weight_F = random.normal(size=3)
    before_F = model.weight_F.copy()
    assert model.learn(x_CF, relevant_C, offset_C) == pytest.approx(loss_of(before_F, x_CF, relevant_C, offset_C))
    gradient_F = [
        (loss_of(before_F + step, x_CF, relevant_C, offset_C) - loss_of(before_F - step, x_CF, relevant_C, offset_C))
        / 2e-6
        for step in 1e-6 * np.eye(3)
    ]
    # AdaGrad's first step is the sign of the gradient times the learning rate.
    assert model.weight_F - before_F == pytest.approx(-1e-3 * np.sign(gradient_F), rel=1e-2)


def test_learns_the_feature_that_tells_and_leaves_the_constant() -> None:
    random = np.random.default_rng(1)
    model = SoftmaxRegression(2, 0.2, 1e-4)
    requests = [np.stack([random.normal(size=4), np.full(4, 7.0)], axis=1) for _ in range(200)]
    model.fit_scale(np.concatenate(requests))
    losses = [model.learn(x_CF, x_CF[:, 0] == x_CF[:, 0].max(), NO_OFFSET) for x_CF in requests]
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:10])
    assert model.weight_F[0] > 1.0
    assert model.weight_F[1] == pytest.approx(0.0, abs=1e-9)
    scores = model.scores(np.array([[1.0, 7.0], [-1.0, 7.0]]))
    assert scores[0] > scores[1]


def test_an_outlier_is_clipped() -> None:
    model = SoftmaxRegression(1, 0.1, 0.0)
    model.weight_F = np.array([1.0])
    assert model.scores(np.array([[1e9], [-1e9]])).tolist() == [6.0, -6.0]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="learning_rate 0"):
        SoftmaxRegression(1, 0.0, 0.0)
    with pytest.raises(SettingsError, match="l2 -1"):
        SoftmaxRegression(1, 0.1, -1.0)
