"""Rules around the ranking: what may be shown, and how a placement is explained."""

from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.errors import DataError
from penstock.features.staged import staged
from penstock.features.state import seconds
from penstock.inference.scorer import RowScores, UserContext
from penstock.serving.api import Filters
from penstock.serving.candidates import AGAIN, FRESH, POPULAR, REST, TASTE, TOGETHER, Allowed
from penstock.serving.placing import Placed, best_first, diversified, epsilon_greedy, thompson
from penstock.serving.rules import JudgedItems, Rule, read_rules
from penstock.serving.served import Served
from penstock.settings import PolicySettings

DIVERSIFIED = 5
"""Candidates for each place that diversity chooses among."""
UNKNOWN_RATE = 0.05
"""Choices per impression where no impression was ever logged."""
SOURCE_REASONS = {
    POPULAR: "popular right now",
    FRESH: "among the newest",
    TOGETHER: "often taken together with what you had recently",
    AGAIN: "you had it before",
    TASTE: "close to your taste",
    REST: "",
}
SAME_AS_SOURCE = {TOGETHER: "cooccurrence", AGAIN: "repeat", POPULAR: "popularity", TASTE: "category_affinity"}
"""The feature that would say again what the source says."""

FEATURE_REASONS = {
    "popularity": "popular lately",
    "rate": "chosen often when shown",
    "category_popularity": "its category is in demand",
    "cooccurrence": "goes with your recent items",
    "repeat": "you come back to it",
    "category_affinity": "from a category you like",
}
MAX_REASONS = 3


class Policy:
    """Everything between the head's scores and the list that is shown; see policy in params.yaml.

    Args:
        rules: business rules, see serving.rules.
        diversity: weight of likeness to what stands above, see placing.diversified.
        exploration, rate, reach: none, epsilon or thompson; how much; candidates for each place that it may show.
        random: the dice.
    """

    def __init__(
        self,
        rules: list[Rule] | None = None,
        diversity: float = 0.0,
        exploration: str = "none",
        rate: float = 0.0,
        reach: int = 3,
        random: np.random.Generator | None = None,
    ) -> None:
        self.rules, self.diversity = rules or [], diversity
        self.exploration, self.rate, self.reach = exploration, rate, reach
        self.random = random or np.random.default_rng()

    @classmethod
    def of(cls, settings: PolicySettings) -> "Policy":
        """What the settings describe.

        Raises:
            SettingsError: the rules file cannot be used.
        """
        rules = read_rules(Path(settings.rules)) if settings.rules else []
        rate = settings.epsilon if settings.exploration == "epsilon" else settings.thompson_scale
        return cls(rules, settings.diversity, settings.exploration, rate, settings.explored_per_place)

    def without_dice(self) -> "Policy":
        """The same rules and diversity, and no exploration: what a shadow shows is then certain."""
        return Policy(self.rules, self.diversity)

    def judged(self, served: Served) -> JudgedItems | None:
        """What the rules say of the version's items, those that came in since included; None without rules."""
        if not self.rules:
            return None
        if served.judged is None:
            served.judged = JudgedItems.of(self.rules, served.scorer.items)
        elif len(served.judged.barred_N) < len(served.scorer.items):
            served.judged.extend(served.scorer.items)
        return served.judged

    @staged("policy")
    def place(self, served: Served, scored: RowScores, k: int, at_s: float) -> Placed:
        """The `k` places: rules move scores, then diversity or exploration chooses."""
        score_C, judged = scored.score_C.astype(np.float64), self.judged(served)
        if judged is not None:
            score_C = score_C + judged.lift_N[scored.row_C] * max(float(score_C.std()), 1e-9)
        if self.exploration == "thompson":
            return self._thompson(served, score_C, scored.row_C, k, at_s)
        if self.diversity > 0:
            near_M = best_first(score_C, k * DIVERSIFIED)
            unit_ME = served.scorer.directions(scored.row_C[near_M])
            greedy_K = near_M[diversified(score_C[near_M], unit_ME, k, self.diversity)]
        else:
            greedy_K = best_first(score_C, k)
        if self.exploration == "none":
            return Placed(greedy_K, np.ones(len(greedy_K)))
        reserve_R = np.setdiff1d(best_first(score_C, k * self.reach), greedy_K)
        return epsilon_greedy(greedy_K, reserve_R, self.rate, self.random)

    def _thompson(
        self, served: Served, score_C: NDArray[np.float64], row_C: NDArray[np.int64], k: int, at_s: float
    ) -> Placed:
        state, near_M = served.scorer.state, best_first(score_C, k * self.reach)
        chosen_M, shown_M = (counts.at(at_s, row_C[near_M])[:, -1] for counts in (state.positive, state.shown))
        shown = float(state.shown.total(at_s)[-1])
        rate = float(state.positive.total(at_s)[-1]) / shown if shown > 0 else UNKNOWN_RATE
        rate = min(max(rate, 0.001), 0.5)
        placed = thompson(score_C[near_M], chosen_M, shown_M, rate, self.rate, k, self.random)
        return Placed(near_M[placed.place_K], placed.propensity_K)


PLAIN = Policy()
"""No rules, no diversity, no dice: the head's order."""


@staged("policy")
def allowed_items(
    served: Served, user: UserContext, at: datetime, wanted: Filters, judged: JudgedItems | None = None
) -> Allowed:
    """Which items may be shown: born by now, barred by no rule, of the categories asked for, not excluded, not seen.

    Raises:
        DataError: a category that no item has.
    """
    scorer, state = served.scorer, served.scorer.state
    mask_N = None if judged is None or not judged.barred_N.any() else ~judged.barred_N
    if wanted.category:
        unknown = [name for name in wanted.category if name not in state.categories]
        if unknown:
            some = ", ".join(sorted(name for name in state.categories if name)[:8]) or "none at all"
            raise DataError(f"filters.category {unknown[0]!r}: no item has it; categories are {some}")
        of_category_N = np.isin(state.category_N, [state.categories[name] for name in wanted.category])
        mask_N = of_category_N if mask_N is None else mask_N & of_category_N
    row_X = np.array([state.row_of[item] for item in wanted.exclude if item in state.row_of], np.int64)
    if not state.spec.repeats if wanted.exclude_seen is None else wanted.exclude_seen:
        row_X = np.concatenate([row_X, scorer.history_of(user).row_L])
    return Allowed(state, seconds(at), row_X, mask_N)


def why(parts: dict[str, float], source: str, newcomer: bool) -> list[str]:
    """Short reasons for one placement, the strongest first.

    Args:
        parts: the features that stand out, the furthest first; see RowScores.standing_out.
        source: the candidate source that named the item.
        newcomer: the user has no history, so nothing personal is said.
    """
    said, reason = SAME_AS_SOURCE.get(source), SOURCE_REASONS.get(source, source)
    found = [reason] if reason else []
    for name in parts:
        family = _family(name)
        if family is not None and family != said and FEATURE_REASONS[family] not in found:
            found.append(FEATURE_REASONS[family])
    if not found:
        found = ["popular or new" if newcomer else "the model's best guess among all items"]
    return found[:MAX_REASONS]


@cache
def _family(feature: str) -> str | None:
    """The longest beginning of a feature's name that there are words for."""
    return next((key for key in sorted(FEATURE_REASONS, key=len, reverse=True) if feature.startswith(key)), None)
