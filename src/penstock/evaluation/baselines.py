"""Models that need no learning, to hold every figure against: numpy and scipy only.

Items and users are integer rows. A baseline is given each window's events once, in time order, after that
window was scored; between windows only the history passed to `scores` is newer. Items nobody had score 0;
who is a candidate (seen before the window, not had already) is the caller's decision.

E events of a window; L history items, oldest first; N items; U users.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from penstock.errors import DataError, SettingsError
from penstock.metrics import Floats, Ints

SECONDS_PER_HOUR = 3600.0
BACKOFF = 1e-6
"""Weight of popularity where it only breaks ties: small enough never to outrank a count."""


class Baseline(Protocol):
    """Scores every item for a user from counts of the past."""

    name: str

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        """Count one window's events, in time order. Raises DataError on rows that do not fit."""
        ...

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        """float64 [N], higher is better; `history_L` is the live history up to the request."""
        ...


class Popularity:
    """Events of an item, all time."""

    name = "popularity"

    def __init__(self, n_items: int) -> None:
        self.count_N = np.zeros(n_items)

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, len(self.count_N))
        self.count_N += np.bincount(item_E, minlength=len(self.count_N))

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        return np.array(self.count_N)


class DecayedPopularity:
    """Events of an item, each halved in weight every `half_life_h` hours."""

    name = "decayed popularity"

    def __init__(self, n_items: int, half_life_h: float) -> None:
        self.half_life_s = half_life_seconds(half_life_h)
        self.count_N = np.zeros(n_items)
        self.counted_at_s = -np.inf

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, len(self.count_N))
        if not len(item_E):
            return
        end_s = max(float(at_s_E[-1]), self.counted_at_s)
        weight_E = 0.5 ** ((end_s - at_s_E) / self.half_life_s)
        self.count_N *= 0.5 ** ((end_s - self.counted_at_s) / self.half_life_s)
        self.count_N += np.bincount(item_E, weight_E, minlength=len(self.count_N))
        self.counted_at_s = end_s

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        """Counts as of the last event: decay since then is the same for every item and orders nothing."""
        return np.array(self.count_N)


class OwnRepeats:
    """How often, and how recently, the user had the item; where never, decayed popularity.

    Args:
        half_life_h: of the popularity that is backed off to.
        half_life_events: a repeat is halved in weight for every so many later events of the user; None: never.
    """

    name = "own repeats"

    def __init__(self, n_items: int, half_life_h: float, half_life_events: float | None = None) -> None:
        if half_life_events is not None and not half_life_events > 0:
            raise SettingsError(f"own repeats: half_life_events is {half_life_events}, expected above 0 or None")
        self.half_life_events = half_life_events
        self.popularity = DecayedPopularity(n_items, half_life_h)

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        self.popularity.update(user_E, item_E, at_s_E)

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        count_N = self.popularity.count_N
        back_N = count_N / max(count_N.max(initial=0.0), BACKOFF)
        if not len(history_L):
            return np.asarray(back_N, np.float64)
        weight_L = recency_weights(len(history_L), self.half_life_events)
        own_N = np.bincount(history_L, weight_L, minlength=len(count_N))
        smallest = own_N[own_N > 0].min()
        return np.asarray(own_N + back_N * smallest * BACKOFF, np.float64)


class CoOccurrence:
    """Items that follow or precede the user's recent items in other users' histories, decayed.

    Two events of one user at most `recent` events apart count once for both directions, halved every
    `half_life_h`. The counts of a pair are divided by (all counts of the history's item) ** row_power and
    (all counts of the candidate) ** column_power, then summed over the last `recent` items, newer ones
    weighing more: 1 and 0 is a conditional probability, 1/2 and 1/2 a cosine. The defaults lie between; they
    were the best compromise on the warm-up quarters of MovieLens 100K (.0975 against .0896 for 1 and 0) and
    Online Retail (.194 for both). Memory is the number of distinct pairs; a window costs one sparse sum over them.
    """

    name = "co-occurrence"

    def __init__(
        self,
        n_items: int,
        half_life_h: float,
        recent: int = 20,
        half_life_events: float | None = 10.0,
        row_power: float = 0.5,
        column_power: float = 0.25,
    ) -> None:
        from scipy.sparse import csr_array

        self.half_life_s = half_life_seconds(half_life_h)
        self.recent, self.half_life_events = recent, half_life_events
        self.row_power, self.column_power = row_power, column_power
        self.popularity = DecayedPopularity(n_items, half_life_h)
        self.pair_NN: Any = csr_array((n_items, n_items))
        self.pairs_of_N = np.zeros(n_items)
        self.recent_by_user: dict[int, Ints] = {}

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        from scipy.sparse import coo_array

        before_s = self.popularity.counted_at_s
        self.popularity.update(user_E, item_E, at_s_E)
        if not len(item_E):
            return
        end_s = self.popularity.counted_at_s
        left_P, right_P, at_s_P = self._pairs(user_E, item_E, at_s_E)
        weight_P = 0.5 ** ((end_s - at_s_P) / self.half_life_s)
        rows, columns = np.concatenate([left_P, right_P]), np.concatenate([right_P, left_P])
        fresh = coo_array((np.concatenate([weight_P, weight_P]), (rows, columns)), shape=self.pair_NN.shape).tocsr()
        self.pair_NN = self.pair_NN * 0.5 ** ((end_s - before_s) / self.half_life_s) + fresh
        self.pairs_of_N = np.asarray(self.pair_NN.sum(axis=1)).ravel()

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        count_N = self.popularity.count_N
        back_N = count_N / max(count_N.sum(), BACKOFF) * BACKOFF
        last_L = np.asarray(history_L[-self.recent :], np.int64)
        if not len(last_L):
            return np.asarray(back_N, np.float64)
        pairs_of_N = np.maximum(self.pairs_of_N, 1.0)
        weight_L = recency_weights(len(last_L), self.half_life_events) / pairs_of_N[last_L] ** self.row_power
        return np.asarray(weight_L @ self.pair_NN[last_L] / pairs_of_N**self.column_power + back_N, np.float64)

    def _pairs(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> tuple[Ints, Ints, Floats]:
        """Rows of both items and the later one's time, for every new pair; remembers each user's last items."""
        order_E = np.argsort(user_E, kind="stable")
        users, start_U = np.unique(user_E[order_E], return_index=True)
        left, right, at = [], [], []
        for user, index in zip(users.tolist(), np.split(order_E, start_U[1:]), strict=True):
            old = self.recent_by_user.get(user, np.zeros(0, np.int64))
            item_S = np.concatenate([old, item_E[index]])
            self.recent_by_user[user] = item_S[-self.recent :]
            for lag in range(1, min(self.recent, len(item_S) - 1) + 1):
                first_new = max(len(old), lag)
                left.append(item_S[first_new - lag : len(item_S) - lag])
                right.append(item_S[first_new:])
                at.append(at_s_E[index[first_new - len(old) :]])
        if not left:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        left_P, right_P, at_s_P = np.concatenate(left), np.concatenate(right), np.concatenate(at)
        distinct_P = left_P != right_P
        return left_P[distinct_P], right_P[distinct_P], at_s_P[distinct_P]


class Ease:
    """Closed-form item-item regression (Steck 2019), refit on everything at the first request of each window.

    Costs one inverse of the items seen so far squared: seconds at 4,000 items, so `max_items` refuses more.
    """

    name = "EASE"

    def __init__(self, n_items: int, l2: float, max_items: int = 20_000) -> None:
        if not l2 > 0:
            raise SettingsError(f"EASE: l2 is {l2}, expected above 0")
        self.l2, self.max_items, self.n_items = l2, max_items, n_items
        self.pairs_UN = np.zeros(0, np.int64)
        self.column_of_N = np.full(n_items, -1)
        self.weight_SS: npt.NDArray[np.float64] | None = None

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, self.n_items)
        self.pairs_UN = np.union1d(self.pairs_UN, user_E.astype(np.int64) * self.n_items + item_E)
        self.weight_SS = None

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        score_N = np.zeros(self.n_items)
        if self.weight_SS is None:
            self.weight_SS = self._fit()
        column_L = np.unique(self.column_of_N[np.asarray(history_L, np.int64)])
        column_L = column_L[column_L >= 0]
        seen_N = self.column_of_N >= 0
        score_N[seen_N] = self.weight_SS[column_L].sum(axis=0)[self.column_of_N[seen_N]]
        return score_N

    def _fit(self) -> npt.NDArray[np.float64]:
        from scipy.linalg import lapack
        from scipy.sparse import csr_array

        user_P, item_P = np.divmod(self.pairs_UN, self.n_items)
        items_S, column_P = np.unique(item_P, return_inverse=True)
        if len(items_S) > self.max_items:
            raise SettingsError(
                f"EASE: {len(items_S)} items, at most {self.max_items} can be inverted; leave it out or raise max_items"
            )
        self.column_of_N = np.full(self.n_items, -1)
        self.column_of_N[items_S] = np.arange(len(items_S))
        if not len(items_S):
            return np.zeros((0, 0))
        _, row_P = np.unique(user_P, return_inverse=True)
        had_US = csr_array((np.ones(len(row_P)), (row_P, column_P)))
        gram_SS = (had_US.T @ had_US).toarray() + self.l2 * np.eye(len(items_S))
        factor_SS, failed = lapack.dpotrf(gram_SS, lower=1)
        inverse_SS, failed_too = lapack.dpotri(factor_SS, lower=1)
        if failed or failed_too:
            raise DataError(f"EASE: the Gram matrix cannot be inverted (info {failed}, {failed_too}); raise l2")
        inverse_SS = np.tril(inverse_SS) + np.tril(inverse_SS, -1).T
        weight_SS = -inverse_SS / np.diag(inverse_SS)
        np.fill_diagonal(weight_SS, 0.0)
        return np.asarray(weight_SS, np.float64)


def check_events(user_E: Ints, item_E: Ints, at_s_E: Floats, n_items: int) -> None:
    """Raise DataError unless the columns align, items lie in 0..N-1 and times are finite and in order."""
    if not len(user_E) == len(item_E) == len(at_s_E):
        raise DataError(f"baseline: {len(user_E)} users, {len(item_E)} items, {len(at_s_E)} times; expected one each")
    if not len(item_E):
        return
    if item_E.min() < 0 or item_E.max() >= n_items:
        raise DataError(f"baseline: item rows {item_E.min()}..{item_E.max()}, expected 0..{n_items - 1}")
    if not np.isfinite(at_s_E).all() or (np.diff(at_s_E) < 0).any():
        raise DataError("baseline: event times are not finite or not in order; sort the window by (at, event_id)")


def half_life_seconds(half_life_h: float) -> float:
    """Seconds in `half_life_h` hours. Raises SettingsError unless above 0."""
    if not half_life_h > 0:
        raise SettingsError(f"baseline: half_life_h is {half_life_h}, expected hours above 0")
    return half_life_h * SECONDS_PER_HOUR


def recency_weights(length: int, half_life_events: float | None) -> Floats:
    """Weight of each history position, oldest first, the newest 1; all 1 without a half-life."""
    if half_life_events is None:
        return np.ones(length)
    return np.asarray(0.5 ** (np.arange(length)[::-1] / half_life_events), np.float64)
