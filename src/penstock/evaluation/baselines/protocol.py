"""What every baseline offers, and the checks they share.

Items and users are integer rows. A baseline is given each window's events once, in time order, after that
window was scored; between windows only the history passed to `scores` is newer. Items nobody had score 0;
who is a candidate (seen before the window, not had already) is the caller's decision.

E events of a window; L history items, oldest first; N items; U users.
"""

from typing import Protocol

import numpy as np

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
