"""Softmax regression over causal features, learned online with AdaGrad; numpy only.

One weight per feature, shared by all users and items. C candidates; F features.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.errors import SettingsError
from penstock.metrics import Floats

CLIPPED_AT = 6.0


class SoftmaxRegression:
    """Listwise softmax over the candidates of a request, one AdaGrad step (Duchi et al., JMLR 2011) per request.

    The target is uniform over the relevant candidates. Features are standardised by `fit_scale` once, and clipped.

    Args:
        n_features: F.
        learning_rate: AdaGrad's.
        l2: pull of each weight to 0, per request.
    """

    def __init__(self, n_features: int, learning_rate: float, l2: float) -> None:
        if not learning_rate > 0 or l2 < 0:
            raise SettingsError(
                f"softmax regression: learning_rate {learning_rate}, l2 {l2}; expected above 0, and 0 or above"
            )
        self.learning_rate, self.l2 = learning_rate, l2
        self.weight_F = np.zeros(n_features)
        self.squares_F = np.full(n_features, 1e-8)
        self.mean_F, self.deviation_F = np.zeros(n_features), np.ones(n_features)

    def fit_scale(self, feature_XF: NDArray[np.floating]) -> None:
        """Take mean and deviation of every feature over X candidates; a constant feature is left at its mean."""
        self.mean_F = feature_XF.mean(axis=0, dtype=np.float64)
        self.deviation_F = np.maximum(feature_XF.std(axis=0, dtype=np.float64), 1e-3)

    def scores(self, feature_CF: NDArray[np.floating]) -> Floats:
        """float64 [C], higher is better."""
        return np.asarray(self._standardised(feature_CF) @ self.weight_F, np.float64)

    def learn(
        self, feature_CF: NDArray[np.floating], relevant_C: NDArray[np.bool_], offset_C: NDArray[np.floating]
    ) -> float:
        """One step on one request.

        Args:
            offset_C: added to the scores in the loss: minus the log of how likely a sampled negative was (logQ).

        Returns:
            The loss before the step, nats per relevant item.
        """
        x_CF = self._standardised(feature_CF)
        score_C = x_CF @ self.weight_F + offset_C
        score_C -= score_C.max()
        chance_C = np.exp(score_C)
        chance_C /= chance_C.sum()
        target_C = relevant_C / relevant_C.sum()
        gradient_F = (chance_C - target_C) @ x_CF + self.l2 * self.weight_F
        self.squares_F += gradient_F**2
        self.weight_F -= self.learning_rate * gradient_F / np.sqrt(self.squares_F)
        return float(-np.log(np.maximum(chance_C[relevant_C], 1e-12)).mean())

    def _standardised(self, feature_CF: NDArray[np.floating]) -> Floats:
        x_CF = (feature_CF - self.mean_F) / self.deviation_F
        return np.asarray(np.clip(x_CF, -CLIPPED_AT, CLIPPED_AT), np.float64)
