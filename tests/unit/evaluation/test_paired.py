"""The closed form agrees with the bootstrap where both can go, and its bound and p-value are one statement."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import GateError
from penstock.evaluation.paired import PairedMean, bent, chance, spread, unbent
from penstock.metrics import bootstrap_mean


def sample(requests: int = 400, users: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    user_R = random.integers(users, size=requests)
    lean_U = random.normal(0, 0.1, users)
    return random.normal(0.02, 0.2, requests) + lean_U[user_R], user_R


def test_the_error_is_the_bootstraps_spread_over_users() -> None:
    gain_R, user_R = sample()
    found = PairedMean.of(gain_R, user_R)
    _, low, high = bootstrap_mean(gain_R, user_R, 4000, 1, 0.95)
    assert found.mean == pytest.approx(gain_R.mean())
    assert (found.lower(0.025), -PairedMean.of(-gain_R, user_R).lower(0.025)) == pytest.approx((low, high), abs=0.004)
    alone = PairedMean.of(gain_R, np.arange(len(gain_R)))
    assert alone.error < found.error, "one user's requests are alike, so they say less than others would"


@given(st.floats(-0.3, 0.3), st.sampled_from([0.2, 0.01, 1e-4, 1e-7]), st.integers(0, 5), st.booleans())
def test_the_bound_allows_what_the_p_value_allows(bound: float, level: float, seed: int, lost: bool) -> None:
    gain_R, user_R = sample(60, 30, seed)
    found = PairedMean.of(np.where(gain_R < -0.3, -1.0, 0.0) if lost else gain_R, user_R)
    if abs(found.lower(level) - bound) > 1e-9:
        assert (found.lower(level) >= bound) == (found.chance_at(bound) <= level)


@given(st.floats(-6, 6), st.floats(-4, 0), st.integers(5, 500))
def test_bending_is_undone(ratio: float, skewness: float, units: int) -> None:
    back = unbent(bent(np.array(ratio), np.array(skewness), units), np.array(skewness), units)
    assert float(back) == pytest.approx(ratio, abs=1e-6)


def test_a_few_whole_losses_widen_the_bound_more_than_their_spread() -> None:
    gain_R, unit_R = np.zeros(120), np.arange(120)
    gain_R[0] = -1.0
    found = PairedMean.of(gain_R, unit_R)
    assert found.mean - 2.9 * found.error > -0.05, "by its spread alone it would pass a margin of 0.05 at 0.0025"
    assert found.lower(0.0025) < -0.05
    mirrored = PairedMean.of(-gain_R, unit_R)
    assert mirrored.lower(0.0025) <= mirrored.mean - 2.8 * mirrored.error, "a lean upwards earns nothing"


def test_the_tail_keeps_its_level_where_a_plain_t_does_not() -> None:
    """Users most of whom do not move, and some lose much: 40,000 samples with a true mean at the bound."""
    random = np.random.default_rng(5)
    moved_MU = (random.random((40_000, 70)) < 0.3) * random.choice([-0.6, -0.3, 0.3], size=(40_000, 70))
    true = 0.3 * -0.2
    mean_M = moved_MU.mean(1)
    error_M, skewness_M, freedom_M = spread(moved_MU - mean_M[:, None], 70)
    ratio_M = (mean_M - true) / error_M
    plain = (chance(ratio_M, np.zeros(40_000), np.full(40_000, 69.0), 70) <= 0.0025).mean()
    assert (chance(ratio_M, skewness_M, freedom_M, 70) <= 0.0025).mean() <= 0.0025 * 1.2
    assert plain > 0.0025 * 2


def test_requests_that_are_all_alike_say_only_what_their_number_says() -> None:
    found = PairedMean.of(np.zeros(100), np.arange(100))
    assert found.lower(0.01) == pytest.approx(-(1 - 0.01**0.01))
    assert found.chance_at(-0.05) == pytest.approx(0.95**100)
    assert found.chance_at(0.0) == 1.0


def test_one_unit_or_no_level_says_nothing() -> None:
    assert PairedMean.of(np.ones(5), np.zeros(5)).lower(0.01) == -math.inf
    assert PairedMean.of(np.ones(5), np.zeros(5)).chance_at(-1.0) == 1.0
    assert PairedMean.of(*sample()).lower(0.0) == -math.inf


@pytest.mark.parametrize("gain", [[], [1.0, math.nan], [1.0, math.inf]])
def test_what_cannot_be_compared_is_an_error(gain: list[float]) -> None:
    with pytest.raises(GateError, match="paired mean"):
        PairedMean.of(np.array(gain), np.arange(len(gain)))
