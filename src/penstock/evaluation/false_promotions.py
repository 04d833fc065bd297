"""A month's budget of false promotions, spent round by round.

A promotion is false when the challenger is truly worse than the champion by more than a margin. A round judges at a
level that depends on what the last 30 days spent, after Tian and Ramdas, "Online control of the familywise error
rate", Statistical Methods in Medical Research 30 (2021) 976-993 (ADDIS-Spending). A round spends only where its
p-value lies between CANDIDATE and DISCARD:

    level_t = (DISCARD - CANDIDATE) * share * left_t^2 / budget      left_t = budget - spent in the 30 days before t
    spent_t = level_t / (DISCARD - CANDIDATE)   if CANDIDATE < p_t <= DISCARD, else 0

A challenger that looks better than the margin (small p) or plainly worse (large p) costs nothing, so a service with
sound rounds keeps judging near its first level, where an even split over 4,320 rounds would judge at 0.00001. What is
spent in any 30 days never exceeds the budget, and the expected number of false promotions never exceeds what is spent:
a p-value under its hypothesis falls below level_t at most level_t / (DISCARD - CANDIDATE) times as often as between the
two marks. The square lets the budget thin out (as one over the number of spending rounds) and never end.
"""

import math
from dataclasses import dataclass

import numpy as np

from penstock.errors import GateError
from penstock.metrics import Floats

CANDIDATE, DISCARD = 0.5, 0.75
WINDOW_DAYS = 30


@dataclass(frozen=True)
class PromotionBudget:
    """`per_month`: expected false promotions in any 30 days, at most; `share`: of it that the first round puts up."""

    per_month: float
    share: float

    def level(self, spent: float | Floats) -> Floats:
        """At which a round judges when `spent` went in the 30 days before it."""
        left = np.maximum(self.per_month - np.asarray(spent, np.float64), 0.0)
        return np.asarray((DISCARD - CANDIDATE) * self.share * left**2 / self.per_month)

    def spent_by(self, level: float | Floats, p_value: float | Floats) -> Floats:
        """What a round spends that judged at `level` and came to `p_value`."""
        between = (np.asarray(p_value) > CANDIDATE) & (np.asarray(p_value) <= DISCARD)
        return np.where(between, np.asarray(level) / (DISCARD - CANDIDATE), 0.0)


@dataclass(frozen=True)
class RoundBudget:
    """What one round may judge at.

    Attributes:
        level: chance of promoting a challenger that is truly worse by more than a margin, in this round; 0 passes
            nobody, where the budget was lowered below what is spent.
        spent, rounds: of the last 30 days, this round left out: budget spent, and rounds judged.
        per_month: the whole budget.
    """

    level: float
    spent: float
    rounds: int
    per_month: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level) and 0 <= self.level <= CANDIDATE):
            raise GateError(
                f"a round cannot judge at level {self.level}: expected 0 to {CANDIDATE}; "
                f"{self.spent:g} of {self.per_month:g} (gates.false_promotions_per_month) is spent in 30 days"
            )
