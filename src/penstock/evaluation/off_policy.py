"""What a challenger would have earned, from answers that another version gave and logged with propensities.

Independence by item and position (Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen, KDD 2018): what an item
earns depends on the item, its position and the context, not on its neighbours. Then one shown item is one action. With
p its logged propensity, q the probability that the challenger shows it there, w = q/p and r its reward:

- IPS (Horvitz and Thompson 1952): the sum of w·r over all placements, per request. Unbiased where p is right.
- SNIPS (Swaminathan and Joachims 2015): for each position, the sum of w·r over the sum of w; the positions' sum.
  A little biased, of much smaller variance, and unmoved by a constant added to the rewards.
- DR (Dudík, Langford and Li 2011): what a model predicts for the challenger's own items, plus w·(r - predicted) of
  the logged ones. Unbiased when either the model or the propensities are right.

Intervals draw whole users. A figure is refused, never guessed, where few placements carry the weight (Kish's effective
sample size), or where the weights' mean is not 1: then the challenger shows what the log never could, or the
propensities are not those that were drawn with. N placements, R requests, U users, P positions.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.errors import GateError
from penstock.metrics import Floats, Ints

PLACEMENT_COLUMNS = ("request_id", "user_id", "position", "item_id", "propensity", "reward", "target")
"""`propensity`: chance that the logging version showed this item at this position; `target`: the challenger's."""

FOLDS = 2
PRIOR_SHOWINGS = 20.0
"""An item shown so often counts half by its own rate and half by its position's."""


@dataclass(frozen=True)
class OffPolicyRules:
    """When a figure is refused, and how intervals are drawn.

    min_effective_sample: placements, by Kish; max_weight_bias: the mean weight's distance from 1; confidence in (0, 1).
    """

    min_effective_sample: float
    max_weight_bias: float
    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Estimate:
    """Reward per request, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """The challenger's estimates beside what was logged; `gain`: DR minus logged, drawn together.

    mean_weight should be 1; effective_sample counts placements.
    """

    requests: int
    users: int
    placements: int
    effective_sample: float
    mean_weight: Estimate
    logged: Estimate
    ips: Estimate
    snips: Estimate
    dr: Estimate
    gain: Estimate

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


def estimate(placements: pl.DataFrame, rules: OffPolicyRules) -> OffPolicy:
    """Judge a challenger by logged placements.

    Args:
        placements: PLACEMENT_COLUMNS, one row per shown item, every shown item of a request; and for DR,
            `predicted`: reward a model expects of this item here, `expected`: of what the challenger shows here.
            Both must come from a model that did not learn this row's reward; see `predict_rewards`.

    Raises:
        GateError: a column is missing, no row, a value that cannot be, the effective sample too small, or weights
            whose mean is not 1.
    """
    _check(placements)
    weight_N = (placements["target"] / placements["propensity"]).to_numpy()
    effective = effective_sample(weight_N)
    if effective < rules.min_effective_sample:
        raise GateError(
            f"off-policy: {len(placements)} placements weigh as {effective:.1f} (effective sample), expected at least "
            f"{rules.min_effective_sample:g}; log more answers with exploration, or compare in a canary"
        )
    sums = _Sums(placements, weight_N)
    draws = sums.draws(rules.resamples, rules.seed)
    whole = np.ones((1, sums.users))
    tail = round((1 - rules.confidence) / 2 * 100, 9)

    def with_interval(values: Any) -> Estimate:
        low, high = np.percentile(values(draws), [tail, 100 - tail])
        return Estimate(float(values(whole)[0]), float(low), float(high))

    found = OffPolicy(
        requests=sums.requests,
        users=sums.users,
        placements=len(placements),
        effective_sample=effective,
        mean_weight=with_interval(sums.mean_weight),
        logged=with_interval(sums.logged),
        ips=with_interval(sums.ips),
        snips=with_interval(sums.snips),
        dr=with_interval(sums.dr),
        gain=with_interval(lambda count_DU: sums.dr(count_DU) - sums.logged(count_DU)),
    )
    _check_support(found.mean_weight, rules.max_weight_bias)
    return found


def effective_sample(weight_N: npt.ArrayLike) -> float:
    """Kish's effective sample size: (Σw)² / Σw²; 0 where every weight is 0."""
    weight = np.asarray(weight_N, np.float64)
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def predict_rewards(placements: pl.DataFrame) -> pl.DataFrame:
    """Add `predicted` and `expected` by item and position, learned from other users' placements only.

    A position's rate is its mean reward; an item's factor is what it earned over what its positions earn on average,
    shrunk to 1 by PRIOR_SHOWINGS. Crude on purpose: DR needs no good model to be right, only to be narrower.

    Args:
        placements: PLACEMENT_COLUMNS and `challenger_item`: what the challenger shows at this position, null where
            it shows nothing there.
    """
    position_N = placements["position"].to_numpy().astype(np.int64)
    names = pl.concat([placements["item_id"], placements["challenger_item"].drop_nulls()]).unique().sort()
    code = {name: row for row, name in enumerate(names)}
    item_N = np.array([code[name] for name in placements["item_id"]], np.int64)
    chosen_N = np.array([code.get(name, -1) for name in placements["challenger_item"]], np.int64)
    fold_N = (placements["user_id"].hash(7) % FOLDS).to_numpy()
    reward_N = placements["reward"].to_numpy().astype(np.float64)
    predicted_N, expected_N = np.zeros(len(reward_N)), np.zeros(len(reward_N))
    for fold in range(FOLDS):
        here_N = fold_N == fold
        rate_P, factor_I = _rates(position_N, item_N, reward_N, ~here_N, len(code))
        predicted_N[here_N] = (rate_P[position_N] * factor_I[item_N])[here_N]
        expected_N[here_N] = np.where(chosen_N >= 0, rate_P[position_N] * factor_I[chosen_N], 0.0)[here_N]
    return placements.with_columns(predicted=pl.Series(predicted_N), expected=pl.Series(expected_N))


def _rates(
    position_N: Ints, item_N: Ints, reward_N: Floats, learn_N: npt.NDArray[np.bool_], items: int
) -> tuple[Floats, Floats]:
    positions = int(position_N.max()) + 1
    shown_P = np.bincount(position_N[learn_N], minlength=positions)
    earned_P = np.bincount(position_N[learn_N], reward_N[learn_N], minlength=positions)
    rate_P = np.divide(earned_P, shown_P, out=np.zeros(positions), where=shown_P > 0)
    usual_I = np.bincount(item_N[learn_N], rate_P[position_N[learn_N]], minlength=items)
    earned_I = np.bincount(item_N[learn_N], reward_N[learn_N], minlength=items)
    prior = PRIOR_SHOWINGS * max(float(rate_P.mean()), 1e-9)
    return rate_P, np.asarray((earned_I + prior) / (usual_I + prior), np.float64)


class _Sums:
    """Everything an estimate needs, summed by user (and position), so that a resample costs one product."""

    def __init__(self, placements: pl.DataFrame, weight_N: Floats) -> None:
        _, user_N = np.unique(placements["user_id"].to_numpy(), return_inverse=True)
        _, position_N = np.unique(placements["position"].to_numpy(), return_inverse=True)
        reward_N = placements["reward"].to_numpy().astype(np.float64)
        self.users = int(user_N.max()) + 1
        owner = placements.group_by("request_id").agg(pl.col("user_id").first())["user_id"]
        users, count = np.unique(owner.to_numpy(), return_counts=True)
        assert len(users) == self.users, "a request belongs to one user"
        self.requests, self.request_U = len(owner), count.astype(np.float64)
        cell_N, cells = user_N * (int(position_N.max()) + 1) + position_N, self.users * (int(position_N.max()) + 1)

        def by_user_and_position(value_N: Floats) -> Floats:
            return np.asarray(np.bincount(cell_N, value_N, minlength=cells).reshape(self.users, -1), np.float64)

        self.weight_UP, self.earned_UP = by_user_and_position(weight_N), by_user_and_position(weight_N * reward_N)
        self.shown_UP = by_user_and_position(np.ones(len(weight_N)))
        self.reward_U = np.bincount(user_N, reward_N, minlength=self.users)
        predicted_N = placements["predicted"].to_numpy().astype(np.float64)
        expected_N = placements["expected"].to_numpy().astype(np.float64)
        self.dr_U = np.bincount(user_N, expected_N + weight_N * (reward_N - predicted_N), minlength=self.users)

    def draws(self, resamples: int, seed: int) -> Floats:
        """How often each user is drawn in each resample [D, U]."""
        chances_U = np.full(self.users, 1 / self.users)
        count_DU = np.random.default_rng(seed).multinomial(self.users, chances_U, size=resamples)
        return np.asarray(count_DU, np.float64)

    def logged(self, count_DU: Floats) -> Floats:
        return np.asarray((count_DU @ self.reward_U) / (count_DU @ self.request_U))

    def ips(self, count_DU: Floats) -> Floats:
        return np.asarray((count_DU @ self.earned_UP.sum(1)) / (count_DU @ self.request_U))

    def dr(self, count_DU: Floats) -> Floats:
        return np.asarray((count_DU @ self.dr_U) / (count_DU @ self.request_U))

    def mean_weight(self, count_DU: Floats) -> Floats:
        return np.asarray((count_DU @ self.weight_UP.sum(1)) / (count_DU @ self.shown_UP.sum(1)))

    def snips(self, count_DU: Floats) -> Floats:
        """A position is filled in the share of requests in which the log fills it."""
        weight_DP, shown_DP = count_DU @ self.weight_UP, count_DU @ self.shown_UP
        mean_DP = np.divide(count_DU @ self.earned_UP, weight_DP, out=np.zeros_like(weight_DP), where=weight_DP > 0)
        return np.asarray((mean_DP * shown_DP).sum(1) / (count_DU @ self.request_U))


def _check(placements: pl.DataFrame) -> None:
    missing = [name for name in (*PLACEMENT_COLUMNS, "predicted", "expected") if name not in placements.columns]
    if missing:
        raise GateError(f"off-policy: no column {', '.join(missing)}; expected {', '.join(PLACEMENT_COLUMNS)}")
    if placements.is_empty():
        raise GateError("off-policy: no placement was logged with a propensity; switch exploration on and wait")
    for name, low, high in (("propensity", 0.0, 1.0), ("target", 0.0, 1.0), ("reward", -np.inf, np.inf),
                            ("predicted", -np.inf, np.inf), ("expected", -np.inf, np.inf)):  # fmt: skip
        value_N = placements[name].cast(pl.Float64).to_numpy()
        bad_N = ~np.isfinite(value_N) | (value_N < low) | (value_N > high)
        if name == "propensity":
            bad_N |= value_N <= 0
        if bad_N.any():
            raise GateError(
                f"off-policy: {np.count_nonzero(bad_N)} of {len(value_N)} values of {name} cannot be, the first is "
                f"{value_N[bad_N][0]}; expected a number {'in (0, 1]' if name == 'propensity' else 'of its range'}"
            )


def _check_support(mean_weight: Estimate, max_bias: float) -> None:
    if mean_weight.high < 1 - max_bias:
        raise GateError(
            f"off-policy: the weights' mean is {mean_weight.value:.3f} (interval {mean_weight.low:.3f} to "
            f"{mean_weight.high:.3f}), expected 1 within {max_bias:g}: the challenger shows items that the log could "
            "not; explore more widely, or compare in a canary"
        )
    if mean_weight.low > 1 + max_bias:
        raise GateError(
            f"off-policy: the weights' mean is {mean_weight.value:.3f} (interval {mean_weight.low:.3f} to "
            f"{mean_weight.high:.3f}), expected 1 within {max_bias:g}: the logged propensities are smaller than the "
            "chances that were drawn with; see what writes them"
        )
