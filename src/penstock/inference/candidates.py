"""Where candidates come from: several cheap sources, taken in turns, before the ranking head orders them.

Ranking every item would be exact and too slow beyond some hundreds; one source alone would never show a new item
(co-occurrence) or a surprising one (popularity).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.state import PAIR_TAIL, CausalState, seconds
from penstock.inference.scorer import UserContext

POPULAR, FRESH, TOGETHER, AGAIN, TASTE, REST = "popular", "fresh", "together", "again", "taste", "catalogue"
SOURCES = (TASTE, TOGETHER, POPULAR, FRESH, AGAIN)


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
    """Item ids, and the source that named each first."""

    items: list[str]
    source: dict[str, str]


def find_candidates(
    scorer: Retrieving, user: UserContext, at: datetime, count: int, allowed_N: NDArray[np.bool_]
) -> Candidates:
    """At most `count` of the allowed items for `user` at `at`.

    Without a history: popular and fresh items only. With a query: every allowed item, since the text decides.
    """
    state, history, at_s = scorer.state, scorer.history_of(user), seconds(at)
    if not allowed_N.any():
        return Candidates([], {})
    source = dict(in_turns(source_lists(scorer, history, at_s, count), allowed_N, count))
    if user.query or (len(history) and int(allowed_N.sum()) <= count):
        for row in np.flatnonzero(allowed_N).tolist():
            source.setdefault(row, REST)
    names = {state.items[row]: name for row, name in source.items()}
    return Candidates(list(names), names)


def source_lists(scorer: Retrieving, history: History, at_s: float, count: int) -> dict[str, NDArray[np.int64]]:
    """At most `count` rows from each source, best first, in the order in which the sources take turns."""
    state = scorer.state
    lists = {POPULAR: popular(state, at_s, count), FRESH: fresh(state, at_s, count)}
    if not len(history):
        return lists
    return {
        TOGETHER: together(state, history, at_s, count),
        TASTE: scorer.nearest(scorer.user_vector(history, at_s), min(count, len(state.items))),
        AGAIN: again(history, count),
        **lists,
    }


def popular(state: CausalState, at_s: float, count: int) -> NDArray[np.int64]:
    """Rows of the items with most positive events lately, best first; never those without any."""
    recent_N = state.positive.at(at_s, np.arange(len(state.items))).sum(1)
    best = np.argsort(-recent_N, kind="stable")[:count]
    return np.asarray(best[recent_N[best] > 0], np.int64)


def fresh(state: CausalState, at_s: float, count: int) -> NDArray[np.int64]:
    """Rows of the items born last, newest first; items whose birth is unknown are left out."""
    born_s_N = np.where(state.born_s_N <= at_s, state.born_s_N, np.nan)
    known = np.flatnonzero(~np.isnan(born_s_N))
    return known[np.argsort(-born_s_N[known], kind="stable")[:count]]


def together(state: CausalState, history: History, at_s: float, count: int) -> NDArray[np.int64]:
    """Rows of the items that others took beside this user's recent ones, strongest first."""
    recent = history.last(PAIR_TAIL)
    weight_LK = 1.0 / (state.pair_count.at(at_s, recent.row_L)[:, :1] + 1.0)
    strength_N = state.pairs.weighted_rows(recent.row_L, weight_LK, at_s, len(state.items))[:, 0]
    best = np.argsort(-strength_N, kind="stable")[:count]
    return np.asarray(best[strength_N[best] > 0], np.int64)


def again(history: History, count: int) -> NDArray[np.int64]:
    """Rows of the user's own items, most recent first."""
    return np.array(list(dict.fromkeys(history.row_L[::-1].tolist()))[:count], np.int64)


def in_turns(
    lists: dict[str, NDArray[np.int64]], allowed_N: NDArray[np.bool_], count: int
) -> Iterator[tuple[int, str]]:
    """Up to `count` distinct allowed rows with their source, one from each list in turn."""
    waiting: dict[str, Iterator[int]] = {name: iter(rows[allowed_N[rows]].tolist()) for name, rows in lists.items()}
    taken: set[int] = set()
    while waiting and len(taken) < count:
        for name in list(waiting):
            row = next((row for row in waiting[name] if row not in taken), None)
            if row is None:
                del waiting[name]
            elif len(taken) < count:
                taken.add(row)
                yield row, name
