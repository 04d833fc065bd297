"""A month of rounds, 144 a day: how often a worse challenger is promoted, and how often a sound one passes.

    python benchmarks/false_promotions.py [--months 100]

Simulated figures of held-out requests, through the code that the gates run: evaluation.paired for the bound and
evaluation.false_promotions for the level. A request's NDCG@10 has one relevant item that changes its place for some
requests, users have several requests, and the moves of half the users lean one way, so that requests are not
independent. "Worse" is worse by exactly the margin, the hardest case, or by losing a few requests whole. Beside ours:
the 95% interval of every round on its own, and the budget split evenly over the month (Bonferroni).
"""

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import measure
from penstock.evaluation.false_promotions import WINDOW_DAYS, PromotionBudget
from penstock.evaluation.paired import chance, spread
from penstock.settings import load_settings

FIRST_DAY = 144
ROUNDS = FIRST_DAY * WINDOW_DAYS
PLACES = np.arange(1, 12)
GAIN = np.where(PLACES <= 10, 1 / np.log2(PLACES + 1), 0.0)
MOVES = np.abs(GAIN[:, None] - GAIN[None, :])[~np.eye(len(GAIN), dtype=bool)].astype(np.float32)
METHODS = ("95% interval each round", "even split of the budget", "penstock")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Held-out requests: `first_U` is where each user's begin, `count_U` how many they have."""

    first_U: NDArray[np.int64]
    count_U: NDArray[np.int64]

    @classmethod
    def of(cls, requests: int, seed: int) -> "World":
        """Users with one request and more, geometrically fewer with many."""
        count_U = np.random.default_rng(seed).geometric(0.62, requests)
        count_U = count_U[: int(np.searchsorted(np.cumsum(count_U), requests)) + 1]
        count_U[-1] -= int(count_U.sum()) - requests
        return cls(np.cumsum(count_U) - count_U, count_U)

    def p_values(
        self, random: np.random.Generator, effect_M: Floats, moved: float, lost: bool, margin: float
    ) -> Floats:
        """One round in each of M months: p-values of "worse than the margin".

        Args:
            effect_M: true mean difference of each month's challenger.
            moved: share of requests that move either way, beside those that the difference comes from.
            lost: it comes from requests lost whole, and nothing else moves; else from places that shift.
        """
        shape = (len(effect_M), int(self.count_U.sum()))
        if lost:
            gain_MR = -(random.random(shape, np.float32) < -effect_M[:, None]).astype(np.float32)
        else:
            pick_MR = random.random(shape, np.float32)
            size_MR = MOVES[random.integers(len(MOVES), size=shape, dtype=np.int16)]
            shift_M = np.abs(effect_M) / MOVES.mean()
            own_MR = np.sign(random.random(shape, np.float32) - 0.5)
            user_MU = np.sign(random.random((shape[0], len(self.count_U)), np.float32) - 0.5)
            user_MU[:, ::2] = 0
            user_MR = np.repeat(user_MU, self.count_U, axis=1)
            sign_MR = np.where(user_MR == 0, own_MR, user_MR)
            shifted_MR = pick_MR >= 1 - shift_M[:, None]
            gain_MR = size_MR * (sign_MR * (pick_MR < moved) + np.sign(effect_M)[:, None] * shifted_MR)
        mean_M = gain_MR.mean(1, dtype=np.float64)
        part_MU = np.add.reduceat(gain_MR, self.first_U, axis=1) - self.count_U * mean_M[:, None]
        error_M, skewness_M, freedom_M = spread(part_MU, shape[1])
        units = len(self.count_U)
        ratio_M = (mean_M + margin) / np.where(error_M > 0, error_M, 1.0)
        p_M = chance(ratio_M, skewness_M, freedom_M, units)
        alike_M = np.where(mean_M > -margin, np.clip(1 - (mean_M + margin), 0, 1) ** units, 1.0)
        return np.asarray(np.where(error_M > 0, p_M, alike_M))


@dataclass(frozen=True)
class Scenario:
    """A kind of month. `bad`: share of challengers that are worse by `worse`; the others differ by `better`."""

    name: str
    requests: int
    bad: float
    worse: float
    better: float = 0.0
    moved: float = 0.2
    lost: bool = False


def run(scenario: Scenario, months: int, budget: PromotionBudget, margin: float, seed: int) -> dict[str, Any]:
    """All three methods on the same rounds."""
    random = np.random.default_rng(seed)
    world = World.of(scenario.requests, seed)
    window = np.zeros((ROUNDS, months))
    false = np.zeros((len(METHODS), months))
    passed, early = np.zeros(len(METHODS)), np.zeros(len(METHODS))
    good, good_early = 0, 0
    spent_M = np.zeros(months)
    for number in range(ROUNDS):
        bad_M = random.random(months) < scenario.bad
        effect_M = np.where(bad_M, -scenario.worse, scenario.better)
        p_M = world.p_values(random, effect_M, scenario.moved, scenario.lost, margin)
        level_M = budget.level(spent_M)
        window[number] = budget.spent_by(level_M, p_M)
        spent_M += window[number]
        for row, level in enumerate((0.025, budget.per_month / ROUNDS, level_M)):
            promoted_M = p_M <= level
            false[row] += promoted_M & bad_M
            passed[row] += int((promoted_M & ~bad_M).sum())
            early[row] += int((promoted_M & ~bad_M).sum()) if number < FIRST_DAY else 0
        good += int((~bad_M).sum())
        good_early += int((~bad_M).sum()) if number < FIRST_DAY else 0
    return {
        "scenario": scenario.name,
        "requests": scenario.requests,
        "users": len(world.count_U),
        "months": months,
        "methods": {
            name: {
                "months_with_a_false_promotion": float((false[row] > 0).mean()) if scenario.bad else None,
                "false_promotions_a_month": float(false[row].mean()) if scenario.bad else None,
                "sound_challengers_passed": float(passed[row] / good) if good else None,
                "sound_challengers_passed_on_day_1": float(early[row] / good_early) if good_early else None,
            }
            for row, name in enumerate(METHODS)
        },
    }


def scenarios(margin: float) -> list[Scenario]:
    """What the table shows."""
    return [
        Scenario("every challenger worse by the margin", 120, 1.0, margin),
        Scenario("every challenger worse by one and a half margins", 120, 1.0, 1.5 * margin),
        Scenario("every challenger worse by the margin, which few requests show", 120, 1.0, margin, moved=0.03),
        Scenario("every challenger loses requests whole", 120, 1.0, margin, lost=True),
        Scenario("one in ten worse by the margin, the others equal", 120, 0.1, margin),
        Scenario("all equal to the champion", 120, 0.0, margin),
        Scenario("all better by 0.02", 120, 0.0, margin, 0.02),
        Scenario("one in ten worse by the margin, the others equal", 500, 0.1, margin),
    ]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=100)
    months = parser.parse_args().months
    gates = load_settings().gates
    budget = PromotionBudget(gates.false_promotions_per_month, gates.first_round_share)
    found: list[dict[str, Any]] = []
    call = partial(_all, found, months, budget, gates.ndcg_margin)
    took_s = measure.seconds(call)
    results = {
        "margin": gates.ndcg_margin,
        "budget": gates.false_promotions_per_month,
        "first_round_share": gates.first_round_share,
        "rounds_a_month": ROUNDS,
        "scenarios": found,
        "seconds": round(took_s, 1),
    }
    measure.save("false_promotions", results)


def _all(found: list[dict[str, Any]], months: int, budget: PromotionBudget, margin: float) -> None:
    for seed, scenario in enumerate(scenarios(margin)):
        fewer = max(1, months * 120 // scenario.requests)
        found.append(run(scenario, fewer, budget, margin, seed))


if __name__ == "__main__":
    main()
