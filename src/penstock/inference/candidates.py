"""Where candidates come from: several cheap sources, merged by what each was worth, before the head orders them.

Ranking every item would be exact and too slow beyond some hundreds; one source alone would never show a new item
(co-occurrence) or a surprising one (popularity). Every source keeps FLOOR of the places, so that a new item is met by
the head before anybody could choose it; the other places go where most hits are expected (features.yields).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.pool import good_rows
from penstock.features.staged import staged
from penstock.features.state import PAIR_TAIL, CausalState, seconds
from penstock.features.yields import Yields
from penstock.inference.scorer import UserContext

POPULAR, FRESH, TOGETHER, AGAIN, TASTE, REST = "popular", "fresh", "together", "again", "taste", "catalogue"
SOURCES = (TASTE, TOGETHER, POPULAR, FRESH, AGAIN)
FLOOR = 0.02
"""Share of the places that each source gets at least, as far as it has items."""


class Retrieving(Protocol):
    """What the sources read: the causal state, and an index of item vectors."""

    state: CausalState

    def history_of(self, user: UserContext) -> History:
        """The past that the request is judged by, oldest first."""
        ...

    def user_vector(self, history: History, at_s: float) -> NDArray[np.float32]:
        """The user's vector [E]."""
        ...

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items nearest to `vector_E`, best first."""
        ...


@dataclass(frozen=True)
class Candidates:
    """Rows of distinct items, the most promising first, and the source that named each.

    `user_E`: the vector of the user's past, None where there is none.
    """

    row_C: NDArray[np.int64]
    source_C: list[str]
    user_E: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.row_C)


class Allowed:
    """Which items may be shown, asked for some rows at a time: most requests exclude a handful, not half of them.

    Args:
        state: an item that is born after `at_s` is never allowed.
        excluded: rows left out.
        mask_N: True where an item may be shown, of all N items; None where nothing more is asked of them.
    """

    def __init__(
        self,
        state: CausalState,
        at_s: float,
        excluded: NDArray[np.int64] | None = None,
        mask_N: NDArray[np.bool_] | None = None,
    ) -> None:
        self._born_s_N, self.at_s, self.mask_N = state.born_s_N, at_s, mask_N
        self._excluded = np.zeros(0, np.int64) if excluded is None else excluded

    def of(self, row_P: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where a row may be shown."""
        allowed_P = ~(self._born_s_N[row_P] > self.at_s)
        if self.mask_N is not None:
            allowed_P &= self.mask_N[row_P]
        if len(self._excluded):
            allowed_P &= ~np.isin(row_P, self._excluded)
        return allowed_P

    def among(self, row_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that may be shown."""
        allowed_P = self.of(row_P)
        return row_P if allowed_P.all() else row_P[allowed_P]

    def rows(self) -> NDArray[np.int64]:
        """Every row that may be shown."""
        return self.among(np.arange(len(self._born_s_N)))

    def reach(self, count: int) -> int:
        """How long a list must be so that `count` of it are left: as the catalogue, where a mask may leave few."""
        return count + len(self._excluded) if self.mask_N is None else len(self._born_s_N)

    def at_most(self, count: int) -> bool:
        """Whether no more than `count` items may be shown; a large catalogue without a mask is not looked through."""
        if self.mask_N is None and len(self._born_s_N) > 4 * (count + len(self._excluded)):
            return False
        return len(self.rows()) <= count


@staged("candidates")
def find_candidates(scorer: Retrieving, user: UserContext, at: datetime, count: int, allowed: Allowed) -> Candidates:
    """At most `count` of the allowed items for `user` at `at`.

    Without a history: popular and fresh items only. With a query, or where no more than `count` items are allowed:
    every allowed item.
    """
    state, history, at_s = scorer.state, scorer.history_of(user), seconds(at)
    user_E = scorer.user_vector(history, at_s) if len(history) else None
    lists = source_lists(scorer, history, at_s, count, allowed, user_E)
    found = merged(lists, count, state.yields, user_E)
    if user.query or (len(history) and allowed.at_most(count)):
        rest_C = np.setdiff1d(allowed.rows(), found.row_C)
        row_C = np.concatenate([found.row_C, rest_C])
        return Candidates(row_C, found.source_C + [REST] * len(rest_C), user_E)
    return found


def source_lists(
    scorer: Retrieving,
    history: History,
    at_s: float,
    count: int,
    allowed: Allowed | None = None,
    user_E: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """At most `count` allowed rows from each source, best first. `user_E`: the user's vector, where it is known."""
    state = scorer.state
    wanted = count if allowed is None else allowed.reach(count)
    lists = {POPULAR: state.trending.top(at_s, wanted), FRESH: state.newest.top(at_s, wanted)}
    if len(history):
        user_E = scorer.user_vector(history, at_s) if user_E is None else user_E
        lists |= {
            TOGETHER: together(state, history, at_s, wanted),
            TASTE: scorer.nearest(user_E, min(wanted, len(state.items))),
            AGAIN: again(history, wanted),
        }
    if allowed is not None:
        lists = {name: allowed.among(row_P) for name, row_P in lists.items()}
    return {name: row_P[:count] for name, row_P in lists.items()}


def together(state: CausalState, history: History, at_s: float, count: int) -> NDArray[np.int64]:
    """Rows of the items that others took beside this user's recent ones, strongest first."""
    recent = history.last(PAIR_TAIL)
    weight_L = 1.0 / (state.pair_count.at(at_s, recent.row_L)[:, 0] + 1.0)
    column_P, count_P, owner_P = state.pairs.entries(recent.row_L, at_s)
    one_P = state.places.representatives(column_P, len(state.items))
    strength_P = np.bincount(one_P, count_P * weight_L[owner_P], len(one_P))
    place_U = (one_P == np.arange(len(one_P))).nonzero()[0]
    place_U = place_U[good_rows(strength_P[place_U], count)]
    place_U = place_U[np.argsort(column_P[place_U])]
    order_U = np.argsort(-strength_P[place_U], kind="stable")[:count]
    return np.asarray(column_P[place_U[order_U]], np.int64)


def again(history: History, count: int) -> NDArray[np.int64]:
    """Rows of the user's own items, most recent first."""
    return np.array(list(dict.fromkeys(history.row_L[::-1].tolist()))[:count], np.int64)


def merged(
    lists: Mapping[str, NDArray[np.int64]], count: int, yields: Yields, user_E: NDArray[np.float32] | None = None
) -> Candidates:
    """Up to `count` distinct rows: each source's floor, then whatever is expected to hit most often.

    A row that several sources name counts as the strongest of them says, and goes by its name. The sum of the rates
    was a little worse (.687 against .691 of MovieLens's later half): sources that overlap are not independent.
    """
    if not any(len(row_P) for row_P in lists.values()):
        return Candidates(np.zeros(0, np.int64), [], user_E)
    names = list(lists)
    lengths = tuple(len(lists[name]) for name in names)
    plan = yields.plan(tuple(names), lengths, count, math.ceil(FLOOR * count))
    row_Q = np.concatenate([lists[name] for name in names])
    # Sorting numbers is several times quicker than sorting their places: a row and its place in the plan are one.
    bits = len(row_Q).bit_length()
    both_Q = np.sort((row_Q << bits) | plan.place_Q)
    place_Q, row_Q = both_Q & ((1 << bits) - 1), both_Q >> bits
    start_U = np.concatenate([[True], row_Q[1:] != row_Q[:-1]]).nonzero()[0]
    wanted_Q = np.zeros(len(row_Q), np.int8)  # by place: 1 where it is the best of a row, 2 where the row has a floor
    wanted_Q[place_Q[start_U]] = 1 + np.logical_or.reduceat(plan.floor_Q[place_Q], start_U)
    kept = (wanted_Q == 2).nonzero()[0][:count]
    place_C = np.sort(np.concatenate([kept, (wanted_Q == 1).nonzero()[0][: count - len(kept)]]))
    row_at_Q = np.empty(len(row_Q), np.int64)
    row_at_Q[place_Q] = row_Q
    return Candidates(row_at_Q[place_C], [names[source] for source in plan.source_Q[place_C].tolist()], user_E)
