"""Rules around the ranking: what may be shown, and how a placement is explained."""

from collections.abc import Collection
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from penstock.errors import DataError
from penstock.features.state import seconds
from penstock.inference.scorer import Scored, UserContext
from penstock.serving.candidates import AGAIN, FRESH, POPULAR, REST, TASTE, TOGETHER
from penstock.serving.ports import ScorerLike

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


def allowed_items(
    scorer: ScorerLike,
    user: UserContext,
    at: datetime,
    categories: Collection[str],
    exclude: Collection[str],
    exclude_seen: bool,
) -> NDArray[np.bool_]:
    """Which items may be shown [N]: born by now, of the categories asked for (any when empty), not excluded.

    Raises:
        DataError: a category that no item has.
    """
    state = scorer.state
    allowed_N = ~(state.born_s_N > seconds(at))
    if categories:
        unknown = [name for name in categories if name not in state.categories]
        if unknown:
            some = ", ".join(sorted(name for name in state.categories if name)[:8]) or "none at all"
            raise DataError(f"filters.category {unknown[0]!r}: no item has it; categories are {some}")
        allowed_N &= np.isin(state.category_N, [state.categories[name] for name in categories])
    rows = [state.row_of[item] for item in exclude if item in state.row_of]
    allowed_N[rows] = False
    if exclude_seen:
        allowed_N[scorer.history_of(user).row_L] = False
    return allowed_N


def why(scored: Scored, source: str, newcomer: bool) -> list[str]:
    """Short reasons for one placement, the strongest first.

    Args:
        source: the candidate source that named the item.
        newcomer: the user has no history, so nothing personal is said.
    """
    reasons = [SOURCE_REASONS.get(source, source)]
    for name, lift in sorted(scored.parts.items(), key=lambda part: -part[1]):
        family = next((key for key in sorted(FEATURE_REASONS, key=len, reverse=True) if name.startswith(key)), None)
        if family is not None and lift > 0 and family != SAME_AS_SOURCE.get(source):
            reasons.append(FEATURE_REASONS[family])
    found = [reason for reason in dict.fromkeys(reasons) if reason]
    if not found:
        found = ["popular or new" if newcomer else "the model's best guess among all items"]
    return found[:MAX_REASONS]
