"""Whether scores mean what they say as probabilities: what a best rescaling of them would save.

Scores become probabilities by softmax over a request's candidates. With slope b, the log loss at b times the scores is
least at b = 1 where they are calibrated (Cox, "Two further applications of a model for binary regression", Biometrika
45, 1958); a slope below 1 says that the model is too sure of itself. The part of the log loss that the best slope
would save is the miscalibration, in nats. R requests, S slopes.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.metrics import Floats

SLOPES = np.geomspace(1 / 8, 8, 25)
UNSCALED = int(np.argmin(np.abs(SLOPES - 1)))


def scaled_losses(is_relevant_C: NDArray[np.bool_], score_C: NDArray[np.floating]) -> Floats:
    """Mean over the relevant of minus log softmax [S], nats, at each slope; the chance level where none is there."""
    if not len(score_C):
        return np.zeros(len(SLOPES))
    if not is_relevant_C.any():
        return np.full(len(SLOPES), np.log(len(score_C)))
    shifted_SC = SLOPES[:, None] * (score_C.astype(np.float64) - float(score_C.max()))
    return np.asarray(np.log(np.exp(shifted_SC).sum(1)) - shifted_SC[:, is_relevant_C].mean(1))


def best_slope(scaled_loss_RS: Floats) -> tuple[float, Floats]:
    """The slope with the least mean loss, and what each request would save by it [R] (below 0 where it would lose)."""
    best = int(np.argmin(scaled_loss_RS.mean(0)))
    return float(SLOPES[best]), scaled_loss_RS[:, UNSCALED] - scaled_loss_RS[:, best]
