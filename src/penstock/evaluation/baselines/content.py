"""Frozen text: the user is the mean of what they had lately. L history items; N items; D width of a text vector."""

import numpy as np
from numpy.typing import NDArray

from penstock.errors import DataError, SettingsError
from penstock.evaluation.baselines.protocol import check_events, recency_weights
from penstock.metrics import Floats, Ints


class FrozenContent:
    """Cosine between each item's text vector and the decayed mean of the user's recent items' vectors.

    Nothing is learned; without a history every item scores 0.

    Args:
        text_ND: float32, one vector per item from an encoder that is not tuned; any length, scaled to 1 here.
        recent: how many of the last events count.
        half_life_events: an event is halved in weight for every so many later ones.

    Raises:
        DataError: a vector that is not finite.
        SettingsError: `recent` or `half_life_events` not above 0.
    """

    name = "frozen content"

    def __init__(self, text_ND: NDArray[np.float32], recent: int, half_life_events: float) -> None:
        if recent < 1 or not half_life_events > 0:
            raise SettingsError(
                f"frozen content: recent is {recent}, half_life_events {half_life_events}; expected both above 0"
            )
        if not np.isfinite(text_ND).all():
            bad = int((~np.isfinite(text_ND).all(axis=1)).sum())
            raise DataError(f"frozen content: {bad} of {len(text_ND)} text vectors are not finite; encode them again")
        norm_N1 = np.linalg.norm(text_ND, axis=1, keepdims=True)
        self.text_ND = np.asarray(text_ND / np.maximum(norm_N1, 1e-12), np.float32)
        self.recent, self.half_life_events = recent, half_life_events

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, len(self.text_ND))

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        last_L = np.asarray(history_L[-self.recent :], np.int64)
        if not len(last_L):
            return np.zeros(len(self.text_ND))
        weight_L = recency_weights(len(last_L), self.half_life_events).astype(np.float32)
        user_D = weight_L @ self.text_ND[last_L]
        length = max(float(np.linalg.norm(user_D)), 1e-12)
        return np.asarray(self.text_ND @ (user_D / length), np.float64)
