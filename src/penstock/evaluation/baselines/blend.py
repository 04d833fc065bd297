"""A weighted sum of other baselines' scores. L history items; N items; P parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.errors import SettingsError
from penstock.evaluation.baselines.protocol import Baseline
from penstock.metrics import Floats, Ints

FLOORS = {"share": None, "log 1e-1": 1e-1, "log 1e-2": 1e-2, "log 1e-3": 1e-3, "log 1e-4": 1e-4}
"""How a part's share enters the sum, by name: as it is, or as the logarithm of itself plus a floor."""


def share_of(score_N: Floats) -> Floats:
    """A part's scores over the largest of them, negatives as 0: 0..1."""
    return np.asarray(np.maximum(score_N, 0.0) / max(float(score_N.max(initial=0.0)), 1e-12), np.float64)


def shaped(share: NDArray[np.floating], shape: str) -> Floats:
    """Shares of any dimension in the shape that `FLOORS` names; a log shape has mean slope 1 over 0..1."""
    floor = FLOORS[shape]
    if floor is None:
        return np.asarray(share, np.float64)
    return np.asarray(np.log(share + floor) / np.log((1 + floor) / floor), np.float64)


@dataclass(frozen=True)
class Weighting:
    """For each part its weight and the shape of its share; a weight of 0 leaves the part out."""

    weights: tuple[float, ...]
    shapes: tuple[str, ...]


class Blend:
    """See the module. The parts are the blend's own: it counts every event into each of them.

    Raises:
        SettingsError: weights or shapes do not fit the parts, or no weight is above 0.
    """

    name = "tuned blend"

    def __init__(self, parts: Sequence[Baseline], weighting: Weighting) -> None:
        if not len(parts) == len(weighting.weights) == len(weighting.shapes):
            raise SettingsError(
                f"blend: {len(parts)} parts, {len(weighting.weights)} weights, {len(weighting.shapes)} shapes; "
                "expected one each"
            )
        unknown = sorted(set(weighting.shapes) - set(FLOORS))
        if unknown:
            raise SettingsError(f"blend: shape {', '.join(unknown)} unknown, expected some of {', '.join(FLOORS)}")
        if not any(weight > 0 for weight in weighting.weights):
            raise SettingsError(f"blend: weights {weighting.weights}, expected at least one above 0")
        chosen = zip(parts, weighting.weights, weighting.shapes, strict=True)
        self.parts = [(part, weight, shape) for part, weight, shape in chosen if weight > 0]

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        for part, _, _ in self.parts:
            part.update(user_E, item_E, at_s_E)

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        scores = [
            weight * shaped(share_of(part.scores(user, history_L, at_s)), shape) for part, weight, shape in self.parts
        ]
        return np.asarray(np.sum(scores, axis=0), np.float64)
