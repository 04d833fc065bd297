"""Features read from a causal state: those of an item alone, and those of an item for a user.

N items, C candidates, H half-lives, L past events, P entries of a count matrix, K weightings.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.places import Places, added
from penstock.features.spec import (
    CATEGORY_HALF_LIVES_H,
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
NOVELTY_H, REPEAT_H = np.array(NOVELTY_HALF_LIVES_H), np.array(REPEAT_HALF_LIVES_H)
RECENCY_H = np.array(RECENCY_HALF_LIVES_H)


def item_columns(state: "CausalState", at_s: float, row_C: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """The features that depend on the item only, at `at_s`: float32 [C, F_item], all N items when rows are None."""
    rows = np.arange(len(state.items)) if row_C is None else row_C
    out_CF = np.empty((len(rows), len(state.spec.item_names)), np.float32)
    fill_item_columns(state, at_s, rows, out_CF)
    return out_CF


def fill_item_columns(state: "CausalState", at_s: float, row_C: NDArray[np.int64], out_CF: NDArray[np.float32]) -> None:
    """Write the features that depend on the item only, at `at_s`, into `out_CF`: `FeatureSpec.item_names`."""
    n_items, count_H = len(state.items), len(state.spec.half_lives_h)
    count_CH, shown_CH = state.positive.at(at_s, row_C), state.shown.at(at_s, row_C)
    total_H, shown_total_H = state.positive.total(at_s), state.shown.total(at_s)
    mean_H = total_H / np.maximum(shown_total_H, 1.0)
    rate_CH = (count_CH + 20.0 * mean_H) / (shown_CH + 20.0)
    category_KH = state.by_category.at(at_s)
    n_categories = max(len(category_KH), 1)
    share_KH = np.log((category_KH + 1) * n_categories / (category_KH.sum(0) + n_categories))
    # An item whose birth is unknown is not called new: bounded, so nothing unforeseen reaches the model.
    age_h_C = (at_s - state.born_s_N[row_C]) / HOUR_S
    age_h_C = np.maximum(np.where(np.isnan(age_h_C), np.inf, age_h_C), 0.0)
    rated = slice(count_H, 2 * count_H)
    by_category = slice(rated.stop, rated.stop + len(CATEGORY_HALF_LIVES_H))
    out_CF[:, :count_H] = _lift(count_CH, total_H, n_items)
    out_CF[:, rated] = np.where(shown_total_H > 0, np.log((rate_CH + 1e-4) / (mean_H + 1e-4)), 0.0)
    out_CF[:, by_category] = share_KH.take(state.category_N[row_C], axis=0)
    out_CF[:, by_category.stop :] = np.exp2(-age_h_C[:, None] / NOVELTY_H)


def _lift(count_CH: NDArray[np.float64], total_H: NDArray[np.float64], n_items: int) -> NDArray[np.float64]:
    """Log of a count over the mean count, smoothed by a tenth of an event an item."""
    return np.asarray(np.log((count_CH + 0.1) * n_items / (total_H + 0.1 * n_items)))


def fill_user_columns(
    state: "CausalState",
    history: History,
    row_C: NDArray[np.int64],
    at_s: float,
    counts_at_s: float,
    out_CF: NDArray[np.float32],
) -> None:
    """Write features of candidates for a user into `out_CF`, columns as `FeatureSpec.user_names`.

    Args:
        at_s: the request's time, from which the ages of past events count.
        counts_at_s: the time that item counts are read at; seconds.
    """
    if not len(history):
        out_CF[:] = 0.0
        return
    places = state.places.of(row_C, len(state.items))
    age_h_L = np.maximum(at_s - history.at_s_L, 0.0) / HOUR_S
    recent, longer = history.last(PAIR_TAIL), history.last(LONG_TAIL)
    follow_count_L = state.follow_count.at(counts_at_s, recent.row_L)[:, 0]
    out_CF[:, :4] = _together(state, longer, row_C, places, counts_at_s).T
    out_CF[:, 4:7] = _follows(state, recent, row_C, places, counts_at_s, follow_count_L).T
    _fill_repeats(history, places, age_h_L, out_CF[:, 7:-4])
    if len(state.categories) > 1:
        share_K = np.bincount(state.category_N[history.row_L], minlength=len(state.categories)) / len(history)
        out_CF[:, -4] = share_K[state.category_N[row_C]]
    else:
        out_CF[:, -4] = 0.0
    out_CF[:, -3] = np.log1p(len(history))
    out_CF[:, -2] = np.add.reduce(np.log(follow_count_L + 1.0)) / len(recent)
    out_CF[:, -1] = np.log1p(age_h_L[-1])


def _together(
    state: "CausalState", longer: History, row_C: NDArray[np.int64], places: Places, at_s: float
) -> NDArray[np.float64]:
    """How much others had a candidate near the user's items: [4, C].

    A cosine over all of `longer`, one over its last 20 events, and conditional probabilities given those and given the
    last three.
    """
    count_L = state.pair_count.at(at_s, longer.row_L)[:, 0] + 1.0
    weight_4L = np.zeros((4, len(longer)))
    weight_4L[0] = 1.0 / np.sqrt(count_L)
    weight_4L[1, -PAIR_TAIL:] = weight_4L[0, -PAIR_TAIL:]
    weight_4L[2, -PAIR_TAIL:] = 1.0 / count_L[-PAIR_TAIL:]
    weight_4L[3, -3:] = weight_4L[2, -3:]
    raw_4C = _summed(state.pairs.entries(longer.row_L, at_s), weight_4L, places)
    raw_4C[:2] /= np.sqrt(state.pair_count.at(at_s, row_C)[:, 0] + 1.0)
    return np.log1p(100.0 * raw_4C)


def _follows(
    state: "CausalState",
    recent: History,
    row_C: NDArray[np.int64],
    places: Places,
    at_s: float,
    count_L: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How often a candidate came after the user's recent items, nearer ones weighing more: [3, C].

    A conditional probability, a cosine, and the first over the items of the last occasion only.
    """
    near_L = 1.0 / np.arange(len(recent), 0, -1)
    last_L = recent.at_s_L == recent.at_s_L[-1]
    damped_L = count_L + 2.0
    weight_3L = np.empty((3, len(recent)))
    weight_3L[0] = near_L / damped_L
    weight_3L[1] = near_L / np.sqrt(damped_L)
    weight_3L[2] = last_L / damped_L / np.count_nonzero(last_L)
    raw_3C = _summed(state.follows.entries(recent.row_L, at_s), weight_3L, places)
    raw_3C[1] /= np.sqrt(state.follow_count.at(at_s, row_C)[:, 0] + 2.0)
    return np.log1p(100.0 * raw_3C)


def _summed(
    entries: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]],
    weight_KL: NDArray[np.float64],
    places: Places,
) -> NDArray[np.float64]:
    """Entries weighed and summed by candidate: [K, C]."""
    column_P, count_P, owner_P = entries
    place_P, known_P = places.known(column_P)  # few of the entries are candidates: weigh only those
    return added(place_P, count_P[known_P] * weight_KL.take(owner_P[known_P], axis=1), places.count)


def _fill_repeats(history: History, places: Places, age_h_L: NDArray[np.float64], out_CF: NDArray[np.float32]) -> None:
    """Write what the user's own past says of a candidate: 5 columns, then the recencies and the sums.

    Count, share, share of the occasions (distinct times), log age relative to a month, whether the last occasion had
    it; then the recency of the latest and the decayed sums of all. The past is in order of time, so the latest of an
    item's events is the last one, and the largest of whatever falls with age is its own. All is 0 where the user did
    not have the item; the U candidates that were had cost the rest.
    """
    out_CF[:] = 0.0
    place_P, known_P = places.known(history.row_L)
    if not len(place_P):
        return
    occasion_L = np.zeros(len(history), np.int64)
    occasion_L[1:] = (history.at_s_L[1:] != history.at_s_L[:-1]).cumsum()
    occasions = int(occasion_L[-1]) + 1
    last_C = np.full(places.count, -1)
    last_C[place_P] = known_P  # of an item's events the last one stays
    had_U = (last_C >= 0).nonzero()[0]
    latest_U = last_C[had_U]
    last_C[had_U] = np.arange(len(had_U))
    item_P = last_C[place_P]
    # One count per item and occasion: a line item twice on one invoice is one occasion.
    pair_P = np.sort(item_P * occasions + occasion_L[known_P])
    once_P = pair_P[np.concatenate([[True], pair_P[1:] != pair_P[:-1]])]
    decay_KP = np.exp2(-age_h_L[known_P] / REPEAT_H[:, None])
    count_U, age_h_U = np.bincount(item_P), age_h_L[latest_U]
    of_user_FU = np.empty((out_CF.shape[1], len(had_U)))
    of_user_FU[0] = np.log1p(count_U)
    of_user_FU[1] = count_U / len(history)
    of_user_FU[2] = np.log1p(10.0 * np.bincount(once_P // occasions) / (occasions + 1))
    of_user_FU[3] = -np.log(1.0 / (1.0 + np.minimum(age_h_U, UNKNOWN_AGE_H))) - np.log(720.0)
    of_user_FU[4] = occasion_L[latest_U] == occasions - 1
    recencies = slice(5, 5 + len(RECENCY_H))
    of_user_FU[recencies] = np.exp2(-age_h_U / RECENCY_H[:, None])
    of_user_FU[recencies.stop :] = np.log1p(3.0 * added(item_P, decay_KP, len(had_U)))
    out_CF[had_U] = of_user_FU.T
