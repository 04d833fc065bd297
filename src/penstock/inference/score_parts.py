"""What a score is made of: the worth of each family of features to an item, measured by taking it away.

An item is scored again with one family's features as they are on average over the catalogue; the part is what the
score loses. What is left when all families are average is the text's and the taste's part, against the average item.
Families work together in the network, so the parts of an item need not add up to its score. Rejected: gradients, which
say how a score would move and not what it rests on; Shapley values, whose 2^8 scorings say much the same.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from penstock.features.state import seconds
from penstock.inference.scorer import Scorer, UserContext

FAMILIES = {
    "popularity": ("popularity_",),
    "clicks when shown": ("rate_",),
    "category": ("category_",),
    "newness": ("novelty_",),
    "taken with the user's items": ("cooccurrence_", "follows"),
    "the user's repeats": ("repeat_",),
    "length and age of the user's past": ("history_", "since_"),
}
"""Beginnings of the features' names; every feature is in one family."""
TEXT = "text and taste"
SAMPLED = 2_000
"""Items that stand for the catalogue, evenly spaced in it."""


def score_parts(
    scorer: Scorer, user: UserContext, row_C: NDArray[np.int64], at: datetime
) -> dict[str, NDArray[np.float64]]:
    """The parts [C] of each family and of the text, by name.

    Args:
        row_C: int64, distinct rows of the catalogue.
    """
    state = scorer.state
    sample_S = np.arange(0, len(state.items), -(-len(state.items) // SAMPLED))
    history, at_s = scorer.history_of(user), seconds(at)
    usual_F = state.features(history, sample_S, at_s).mean(0)
    feature_CF = state.features(history, row_C, at_s)

    def scores(row_B: NDArray[np.int64], feature_BF: NDArray[np.float32]) -> NDArray[np.float64]:
        return scorer.score(user, row_B, at, feature_CF=feature_BF).score_C.astype(np.float64)

    whole_C, parts = scores(row_C, feature_CF), {}
    for family, beginnings in FAMILIES.items():
        taken_F = np.array([name.startswith(beginnings) for name in state.spec.names])
        parts[family] = whole_C - scores(row_C, np.where(taken_F, usual_F, feature_CF))
    plain_C, plain_S = (scores(rows, np.tile(usual_F, (len(rows), 1))) for rows in (row_C, sample_S))
    parts[TEXT] = plain_C - plain_S.mean()
    return parts
