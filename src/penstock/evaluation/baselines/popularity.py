"""How often items are taken: by all, by all lately, by the user. E events; L history items; N items."""

import numpy as np

from penstock.errors import SettingsError
from penstock.evaluation.baselines.protocol import BACKOFF, check_events, half_life_seconds, recency_weights
from penstock.metrics import Floats, Ints


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


class NewcomerPopularity:
    """Events of an item among the first `first` events of each user: what people take when they arrive."""

    name = "newcomers' popularity"

    def __init__(self, n_items: int, first: int) -> None:
        if first < 1:
            raise SettingsError(f"newcomers' popularity: first is {first}, expected 1 or more")
        self.first = first
        self.count_N = np.zeros(n_items)
        self.had_of: dict[int, int] = {}

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, len(self.count_N))
        for user, item in zip(user_E.tolist(), item_E.tolist(), strict=True):
            had = self.had_of.get(user, 0)
            if had < self.first:
                self.count_N[item] += 1
                self.had_of[user] = had + 1

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
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
