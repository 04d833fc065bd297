"""The budget of false promotions: never overdrawn in any window, spent only by undecided rounds, kept in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import GateError
from penstock.evaluation.false_promotions import CANDIDATE, DISCARD, PromotionBudget, RoundBudget

BUDGET = PromotionBudget(0.05, 0.2)


@given(st.lists(st.floats(0, 1), max_size=300), st.integers(1, 60))
def test_no_window_spends_more_than_the_budget(p_values: list[float], window: int) -> None:
    spent: list[float] = []
    for p_value in p_values:
        level = float(BUDGET.level(sum(spent[-window + 1 :] if window > 1 else [])))
        spent.append(float(BUDGET.spent_by(level, p_value)))
        assert 0 < level <= CANDIDATE
        assert sum(spent[-window:]) <= BUDGET.per_month + 1e-12


def test_plainly_good_and_plainly_bad_rounds_cost_nothing() -> None:
    first = float(BUDGET.level(0.0))
    assert first == pytest.approx((DISCARD - CANDIDATE) * 0.2 * 0.05)
    assert [float(BUDGET.spent_by(first, p)) > 0 for p in (1e-9, CANDIDATE, 0.6, DISCARD, 0.8, 1.0)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip


def test_the_budget_thins_out_and_does_not_end() -> None:
    spent = 0.0
    levels = []
    for _ in range(1000):
        levels.append(float(BUDGET.level(spent)))
        spent += float(BUDGET.spent_by(levels[-1], 0.6))
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 1e-8


def test_a_month_of_challengers_at_the_margin_keeps_the_budget() -> None:
    """Exact p-values, 4,320 rounds, 2,000 months at once: the mean of false promotions is at most what is allowed."""
    random = np.random.default_rng(4)
    spent_M, false_M = np.zeros(2000), np.zeros(2000)
    for _ in range(4320):
        p_M = random.random(2000)
        level_M = BUDGET.level(spent_M)
        spent_M += BUDGET.spent_by(level_M, p_M)
        false_M += p_M <= level_M
    allowed = 0.05 + 3 * math.sqrt(0.05 / 2000)
    assert false_M.mean() <= allowed
    assert false_M.mean() > 0.01, "the budget is used, not hoarded"


@pytest.mark.parametrize("level", [math.nan, -0.1, 0.6])
def test_a_level_that_is_none_is_an_error(level: float) -> None:
    with pytest.raises(GateError, match="cannot judge at level"):
        RoundBudget(level, 0.0, 0, 0.05)
