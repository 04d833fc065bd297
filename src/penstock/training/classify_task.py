"""The classification task: the texts are the questions, the loss is cross-entropy."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.features.examples import Labelled
from penstock.features.state import FeatureSpec
from penstock.model.classifier import Classifier
from penstock.settings import Settings


class ClassifyTask:
    """Label a text: the texts are the questions, the loss is cross-entropy."""

    def __init__(self, settings: Settings, spec: FeatureSpec, text_width: int) -> None:
        del spec
        self.classifier = Classifier(text_width, 0)
        self.network: nn.Module = self.classifier

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
        """Room for new labels, which start at zero."""
        return self.classifier.grow(labels)

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Load weights over as many labels as there were."""
        self.classifier.grow(weights["weight"].shape[1])
        self.classifier.load_state_dict(weights)

    def fit_scale(self, examples: Labelled) -> None:
        """Text vectors have unit norm already."""

    def text_rows(self, batch: Labelled) -> NDArray[np.int64]:
        """Distinct texts of the batch."""
        return np.unique(batch.text_R)

    def loss(
        self, batch: Labelled, row_U: Tensor, leaf_UT: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-entropy."""
        place_R = torch.from_numpy(np.searchsorted(row_U.numpy(), batch.text_R)).to(device)
        logit_RK = self.network(leaf_UT[place_R]).float()
        label_R = torch.from_numpy(batch.label_R).to(device)
        return nn.functional.cross_entropy(logit_RK, label_R), None
