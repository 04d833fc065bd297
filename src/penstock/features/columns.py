"""Features read from a causal state: those of an item alone, and those of an item for a user.

N items, C candidates, H half-lives, L past events, P entries of a count matrix.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.places import Places
from penstock.features.spec import (
    NOVELTY_HALF_LIVES_H,
    RECENCY_HALF_LIVES_H,
    REPEAT_HALF_LIVES_H,
)

if TYPE_CHECKING:
    from penstock.features.state import CausalState

HOUR_S = 3600.0
PAIR_TAIL = 20
LONG_TAIL = 100
UNKNOWN_AGE_H = 8760.0


def item_columns(state: "CausalState", at_s: float, row_C: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """The features that depend on the item only, at `at_s`: float32 [C, F_item], all N items when rows are None."""
    rows = np.arange(len(state.items)) if row_C is None else row_C
    n_items = len(state.items)
    count_CH, shown_CH = state.positive.at(at_s, rows), state.shown.at(at_s, rows)
    total_H, shown_total_H = state.positive.total(at_s), state.shown.total(at_s)
    mean_H = total_H / np.maximum(shown_total_H, 1.0)
    rate_CH = (count_CH + 20.0 * mean_H) / (shown_CH + 20.0)
    rate_CH = np.where(shown_total_H > 0, np.log((rate_CH + 1e-4) / (mean_H + 1e-4)), 0.0)
    category_KH = state.by_category.at(at_s)
    n_categories = max(len(category_KH), 1)
    share_KH = np.log((category_KH + 1) * n_categories / (category_KH.sum(0) + n_categories))
    # An item whose birth is unknown is not called new: bounded, so nothing unforeseen reaches the model.
    age_h_C = np.clip(np.nan_to_num((at_s - state.born_s_N[rows]) / HOUR_S, nan=np.inf), 0.0, None)
    parts = [
        _lift(count_CH, total_H, n_items),
        rate_CH,
        share_KH[state.category_N[rows]],
        np.exp2(-age_h_C[:, None] / np.array(NOVELTY_HALF_LIVES_H)),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _lift(count_CH: NDArray[np.float64], total_H: NDArray[np.float64], n_items: int) -> NDArray[np.float64]:
    """Log of a count over the mean count, smoothed by a tenth of an event an item."""
    return np.asarray(np.log((count_CH + 0.1) * n_items / (total_H + 0.1 * n_items)))


def user_columns(
    state: "CausalState", history: History, row_C: NDArray[np.int64], at_s: float, counts_at_s: float
) -> NDArray[np.float32]:
    """Features of candidates for a user: float32 [C, F_user], columns as `FeatureSpec.user_names`.

    Args:
        at_s: the request's time, from which the ages of past events count.
        counts_at_s: the time that item counts are read at; seconds.
    """
    if not len(history):
        return np.zeros((len(row_C), len(state.spec.user_names)), np.float32)
    places = Places(row_C, len(state.items))
    age_h_L = np.maximum(at_s - history.at_s_L, 0.0) / HOUR_S
    recent, longer = history.last(PAIR_TAIL), history.last(LONG_TAIL)
    follow_count_L = state.follow_count.at(counts_at_s, recent.row_L)[:, 0]
    share_K = np.bincount(state.category_N[history.row_L], minlength=len(state.categories)) / len(history)
    affinity_C = share_K[state.category_N[row_C]] if len(state.categories) > 1 else np.zeros(len(row_C))
    of_user = [np.log1p(len(history)), np.log(follow_count_L + 1.0).mean(), np.log1p(age_h_L[-1])]
    parts = [
        _together(state, longer, row_C, places, counts_at_s),
        _follows(state, recent, row_C, places, counts_at_s, follow_count_L),
        _repeats(history, places, age_h_L),
        affinity_C[:, None],
        np.tile(of_user, (len(row_C), 1)),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _together(
    state: "CausalState", longer: History, row_C: NDArray[np.int64], places: Places, at_s: float
) -> NDArray[np.float64]:
    """How much others had a candidate near the user's items: [C, 4].

    A cosine over all of `longer`, one over its last 20 events, and conditional probabilities given those and given the
    last three.
    """
    count_L = state.pair_count.at(at_s, longer.row_L)[:, 0] + 1.0
    back_L = np.arange(len(longer))[::-1]
    recent_L, last_L = (back_L < PAIR_TAIL).astype(np.float64), (back_L < 3).astype(np.float64)
    root_L = np.sqrt(count_L)
    weight_L4 = np.stack([1.0 / root_L, recent_L / root_L, recent_L / count_L, last_L / count_L], axis=1)
    raw_C4 = _summed(state.pairs.entries(longer.row_L, at_s), weight_L4, places)
    raw_C4[:, :2] /= np.sqrt(state.pair_count.at(at_s, row_C) + 1.0)
    return np.log1p(100.0 * raw_C4)


def _follows(
    state: "CausalState",
    recent: History,
    row_C: NDArray[np.int64],
    places: Places,
    at_s: float,
    count_L: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How often a candidate came after the user's recent items, nearer ones weighing more: [C, 3].

    A conditional probability, a cosine, and the first over the items of the last occasion only.
    """
    near_L = 1.0 / np.arange(len(recent), 0, -1)
    last_L = (recent.at_s_L == recent.at_s_L[-1]).astype(np.float64)
    damped_L = count_L + 2.0
    weights = [near_L / damped_L, near_L / np.sqrt(damped_L), last_L / damped_L / last_L.sum()]
    raw_C3 = _summed(state.follows.entries(recent.row_L, at_s), np.stack(weights, axis=1), places)
    raw_C3[:, 1] /= np.sqrt(state.follow_count.at(at_s, row_C)[:, 0] + 2.0)
    return np.log1p(100.0 * raw_C3)


def _summed(
    entries: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]],
    weight_LK: NDArray[np.float64],
    places: Places,
) -> NDArray[np.float64]:
    column_P, count_P, owner_P = entries
    place_P, known_P = places.known(column_P)  # few of the entries are candidates: weigh only those
    return places.added(place_P, count_P[known_P, None] * weight_LK[owner_P[known_P]])


def _repeats(history: History, places: Places, age_h_L: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the user's own past says of a candidate: [C, 5 + recencies + sums].

    Count, share, share of the occasions (distinct times), log age relative to a month, whether the last occasion had
    it; then the recency of the latest and the decayed sums of all.
    """
    row_L = history.row_L
    times, occasion_L = np.unique(history.at_s_L, return_inverse=True)
    # One count per item and occasion: a line item twice on one invoice is one occasion.
    once_P = np.unique(row_L * len(times) + occasion_L)
    occasions_C1 = places.sums(once_P // len(times), np.ones((len(once_P), 1)))
    decay_LK = np.exp2(-age_h_L[:, None] / np.array(REPEAT_HALF_LIVES_H))
    recency_LK = np.exp2(-age_h_L[:, None] / np.array(RECENCY_HALF_LIVES_H))
    last_L = (occasion_L == len(times) - 1).astype(np.float64)
    sum_CK = places.sums(row_L, np.column_stack([np.ones(len(row_L)), decay_LK]))
    closeness_L = 1.0 / (1.0 + np.minimum(age_h_L, UNKNOWN_AGE_H))
    largest_CK = places.largest(row_L, np.column_stack([closeness_L, last_L, recency_LK]))
    count_C = sum_CK[:, 0]
    had_C = count_C > 0
    age_C = np.where(had_C, -np.log(np.maximum(largest_CK[:, 0], 1e-9)) - np.log(720.0), 0.0)
    return np.column_stack(
        [
            np.log1p(count_C),
            count_C / len(history),
            np.log1p(10.0 * occasions_C1[:, 0] / (len(times) + 1)),
            age_C,
            largest_CK[:, 1],
            largest_CK[:, 2:],
            np.log1p(3.0 * sum_CK[:, 1:]),
        ]
    )
