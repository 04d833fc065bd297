"""One comparison of challenger and champion on the same requests, judged by the unfavourable end of its interval.

Two things must hold: the percentile interval of a paired bootstrap over users at the set confidence, and the bound at
the round's own level, which is where a budget of false promotions is kept (evaluation.false_promotions). The interval
that a gate shows is the wider of the two on each side.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.evaluation.paired import PairedMean
from penstock.metrics import Floats, paired_bootstrap
from penstock.records import GateResult
from penstock.settings import GateSettings


@dataclass(frozen=True)
class Condition:
    """What a comparison must show.

    Attributes:
        name, metric, slice: as in GateResult; `metric` is what is subtracted, such as ndcg@10.
        allowed: the difference challenger minus champion may be this at worst: below 0 a margin, above 0 a required
            gain (the other way round where lower is better).
        lower_is_better: True for losses.
    """

    name: str
    metric: str
    slice: str
    allowed: float
    lower_is_better: bool = False
    against: str = "champion"

    @property
    def comparison(self) -> Literal[">=", "<="]:
        """How the difference compares with what is allowed."""
        return "<=" if self.lower_is_better else ">="

    def result(self, observed: float, ends: tuple[float | None, float | None], passed: bool, detail: str) -> GateResult:
        """The gate's result."""
        label = f"{self.metric} minus {self.against}'s"
        return GateResult(self.name, label, self.slice, self.comparison, self.allowed, observed, *ends, passed, detail)

    def refused(self, fault: str) -> GateResult:
        """The result where nothing could be measured."""
        return self.result(math.nan, (None, None), False, fault)


def compare(
    condition: Condition,
    challenger_M: Floats,
    champion_M: Floats,
    user_M: npt.NDArray[Any],
    settings: GateSettings,
    seed: int,
    level: float,
) -> tuple[GateResult, float]:
    """Judge finite values of the same M requests.

    Args:
        user_M: user of each request; they are drawn as wholes.
        level: chance that the bound fails to hold.

    Returns:
        the result, and the p-value of "the challenger is worse than allowed" (1 where nothing speaks against it).
    """
    unit_M, unit = resampled(user_M)
    sign = -1.0 if condition.lower_is_better else 1.0
    mean, low, high = paired_bootstrap(
        challenger_M, champion_M, unit_M, settings.bootstrap_resamples, seed, settings.confidence
    )
    gain = PairedMean.of(sign * (challenger_M - champion_M), unit_M)
    loss = PairedMean.of(sign * (champion_M - challenger_M), unit_M)
    worst, best = gain.lower(level), -loss.lower(level)
    ends = (worst, best) if sign > 0 else (-best, -worst)
    low, high = min(low, ends[0]), max(high, ends[1])
    judged = high if condition.lower_is_better else low
    passed = judged <= condition.allowed if condition.lower_is_better else judged >= condition.allowed
    detail = (
        f"challenger {challenger_M.mean():.4f}, {condition.against} {champion_M.mean():.4f} over {len(user_M)} "
        f"requests of {gain.units} {unit}; {'upper' if condition.lower_is_better else 'lower'} end {judged:+.4f} must "
        f"be {condition.comparison} {condition.allowed:+g} (paired bootstrap at {settings.confidence:.0%}, and the "
        f"bound at level {level:.2g})"
    )
    shown = (low if math.isfinite(low) else None, high if math.isfinite(high) else None)
    return condition.result(mean, shown, bool(passed), detail), gain.chance_at(sign * condition.allowed)


def resampled(user_M: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str]:
    """What is drawn: users; with a single user (texts without one) its requests, else the interval has no width."""
    if len(np.unique(user_M)) > 1:
        return user_M, "users"
    return np.arange(len(user_M)), "requests of the only user"
