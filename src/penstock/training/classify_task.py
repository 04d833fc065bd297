"""The classification task: the texts are the questions; the label layer is fitted to every text that is kept."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.errors import TrainingError
from penstock.features.examples import Labelled
from penstock.features.state import FeatureSpec
from penstock.model.classifier import LOGIT_SCALE, Classifier
from penstock.model.label_head import LabelledVectors, fit
from penstock.settings import Settings


class ClassifyTask:
    """Label a text. `name_row_K`: where each label's own name is in the table of texts, None when it is not used."""

    def __init__(self, settings: Settings, spec: FeatureSpec, text_width: int) -> None:
        del spec
        self.settings = settings.classifier
        self.classifier = Classifier(text_width, 0)
        self.network: nn.Module = self.classifier
        self.name_row_K: NDArray[np.int64] | None = None

    @property
    def residual(self) -> nn.Parameter:
        """There is none."""
        raise AttributeError("a classifier has no residuals")

    def head_parameters(self) -> list[nn.Parameter]:
        """Dense weights."""
        return list(self.network.parameters())

    def grow(self, rows: int) -> bool:
        """Texts come and go; only labels grow, through `grow_labels`."""
        del rows
        return False

    def grow_labels(self, labels: int) -> bool:
        """Room for new labels, which stay out of the running until they are learned."""
        return self.classifier.grow(labels)

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Load weights over as many labels as there were."""
        self.classifier.grow(weights["weight"].shape[1])
        self.classifier.load_state_dict(weights)

    def fit(self, kept: Labelled | None, new: Labelled, text_NT: Tensor, gradient_NT: Tensor) -> float:
        """Fit the label layer to what is kept and what is new, and the names of the labels.

        Args:
            text_NT: vectors of all texts, on the CPU.
            gradient_NT: receives the gradient of the mean loss at the new texts, for the encoder.

        Returns:
            The mean cross-entropy of the new texts, after the fit.

        Raises:
            TrainingError: it is not finite.
        """
        fit(self.classifier, self._known(new if kept is None else Labelled.join([kept, new]), text_NT), self.settings)
        layer = self.classifier.weight.detach() * LOGIT_SCALE
        row_R = torch.from_numpy(new.text_R)
        label_R = torch.from_numpy(new.label_R).to(layer.device)
        with torch.no_grad():
            logit_RK = self.classifier(text_NT[row_R].to(layer.device))
            loss = float(nn.functional.cross_entropy(logit_RK, label_R))
            error_RK = logit_RK.softmax(1) - nn.functional.one_hot(label_R, logit_RK.shape[1])
            gradient_NT.index_add_(0, row_R, ((error_RK @ layer.T) / len(row_R)).float().cpu())
        if not math.isfinite(loss):
            raise TrainingError(f"the classifier's loss on {len(new)} texts is {loss}; nothing of this round was kept")
        return loss

    def _known(self, examples: Labelled, text_NT: Tensor) -> LabelledVectors:
        row_N, label_N = examples.text_R, examples.label_R
        weight_N = np.ones(len(row_N), np.float32)
        if self.name_row_K is not None and self.settings.name_weight > 0:
            names = len(self.name_row_K)
            row_N, label_N = np.concatenate([row_N, self.name_row_K]), np.concatenate([label_N, np.arange(names)])
            weight_N = np.concatenate([weight_N, np.full(names, self.settings.name_weight, np.float32)])
        device = self.classifier.weight.device
        parts = (text_NT[torch.from_numpy(row_N)], torch.from_numpy(label_N), torch.from_numpy(weight_N))
        return LabelledVectors(*(part.to(device) for part in parts))
