"""What differs between the tasks: which texts an example needs, the network, the loss."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.features.examples import Examples
from penstock.features.state import FeatureSpec
from penstock.model.losses import listwise_softmax
from penstock.model.ranking import POSITIONS, RankingModel
from penstock.settings import Settings
from penstock.training.classify_task import ClassifyTask


class LearningTask(Protocol):
    """One task's share of learning."""

    network: nn.Module

    @property
    def residual(self) -> nn.Parameter: ...

    def head_parameters(self) -> list[nn.Parameter]: ...

    def grow(self, rows: int) -> bool: ...

    def grow_labels(self, labels: int) -> bool: ...

    def restore(self, weights: dict[str, Tensor]) -> None: ...

    def fit_scale(self, examples: Any) -> None: ...

    def text_rows(self, batch: Any) -> NDArray[np.int64]: ...

    def weight(self, batch: Any) -> float: ...

    def loss(
        self, batch: Any, row_U: Tensor, leaf_UT: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor | None]: ...


class RankTask:
    """Order items for a user: the texts are the items, the loss is listwise softmax."""

    def __init__(self, settings: Settings, spec: FeatureSpec, text_width: int) -> None:
        self.model = RankingModel(text_width, len(spec.kinds), len(spec.names), settings.model)
        self.network: nn.Module = self.model

    @property
    def residual(self) -> nn.Parameter:
        """Per-item residuals [N, E]."""
        return self.model.residual

    def head_parameters(self) -> list[nn.Parameter]:
        """Dense weights."""
        return self.model.head_parameters()

    def grow(self, rows: int) -> bool:
        """Room for new items."""
        return self.model.grow(rows)

    def grow_labels(self, labels: int) -> bool:
        """A ranker has none."""
        del labels
        return False

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Load weights, the table of residuals as long as it was."""
        self.model.grow(len(weights["residual"]))
        self.model.load_state_dict(weights)

    def fit_scale(self, examples: Examples) -> None:
        """Mean and deviation of every feature over real candidates, fixed from then on."""
        feature_XF = torch.from_numpy(examples.feature_RCF[examples.mask_RC])
        head = self.model.rank
        head.mean.data = feature_XF.mean(0).to(head.mean.device)
        head.deviation.data = feature_XF.std(0).clamp(min=0.1).to(head.mean.device)

    def text_rows(self, batch: Examples) -> NDArray[np.int64]:
        """Distinct items of the batch."""
        return np.union1d(batch.row_RC[batch.mask_RC], batch.past_row_RL[batch.past_mask_RL])

    def weight(self, batch: Examples) -> float:
        """What the mean of `loss` divides by; by it, the losses of two batches add up to that of both."""
        gain_RC = np.where(batch.mask_RC, batch.gain_RC, 0.0)
        return float(np.sqrt(gain_RC.sum(1)).sum())

    def loss(
        self, batch: Examples, row_U: Tensor, leaf_UT: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Listwise softmax, and the residual rows as the leaf whose gradient the sparse optimiser takes."""
        rows = row_U.numpy()
        residual_UE = self.model.residual.detach()[row_U.to(device)].requires_grad_(True)
        item_UE = self.model.item(leaf_UT) + residual_UE
        place_RC = torch.from_numpy(np.searchsorted(rows, batch.row_RC).clip(max=len(rows) - 1)).to(device)
        place_RL = torch.from_numpy(np.searchsorted(rows, batch.past_row_RL).clip(max=len(rows) - 1)).to(device)
        past_RLE = item_UE[place_RL]
        age_RL = torch.from_numpy(batch.past_age_RL).to(device)
        past_mask_RL = torch.from_numpy(batch.past_mask_RL).to(device)
        kind_RL = torch.from_numpy(batch.past_kind_RL).to(device)
        asked_RT = torch.zeros(len(batch), leaf_UT.shape[1], device=device)
        user_RE = self.model.user(past_RLE, kind_RL, age_RL, past_mask_RL, asked_RT)
        feature_RCF = torch.from_numpy(batch.feature_RCF).to(device)
        score_RC = self.model.rank(user_RE, past_RLE, age_RL, past_mask_RL, item_UE[place_RC], feature_RCF)
        position_RC = torch.from_numpy(batch.position_RC).to(device)
        bias_RC = self.model.position_bias[position_RC.clamp(0, POSITIONS - 1)]
        score_RC = (score_RC + torch.where(position_RC >= 0, bias_RC, torch.zeros_like(bias_RC))).float()
        parts = (torch.from_numpy(value).to(device) for value in (batch.gain_RC, batch.offset_RC, batch.mask_RC))
        return listwise_softmax(score_RC, *parts), residual_UE


TASKS: dict[str, Any] = {"rank": RankTask, "classify": ClassifyTask}
