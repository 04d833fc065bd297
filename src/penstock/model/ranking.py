"""The ranking model: item vectors from text plus a learned residual, attention over the past, causal features, cross
layers.

B requests, L past events, C candidates, T width of a text vector, E width of a vector, F features, X cross inputs.
DCN-v2 cross layers: Wang et al., WWW 2021. Target attention: Zhou et al., KDD 2018 (DIN).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # benchmarks/gpu.py runs this module where pydantic is not installed
    from penstock.settings import ModelSettings

POSITIONS = 64


def matrix(rows: int, columns: int, scale: float | None = None) -> nn.Parameter:
    """A weight applied as x @ W, so that an exported graph holds it untransposed."""
    return nn.Parameter(torch.randn(rows, columns) * (rows**-0.5 if scale is None else scale))


class ItemTower(nn.Module):
    """Text vector to item vector; the residual is added by the index, since new items have none."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.projection = matrix(text_width, width)

    def forward(self, text_BT: Tensor) -> Tensor:
        """[.., T] to [.., E]."""
        return text_BT @ self.projection * math.sqrt(self.projection.shape[1])


class UserTower(nn.Module):
    """Past events, and what was asked, to one vector."""

    def __init__(self, text_width: int, kinds: int, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        self.kind = matrix(kinds, width, 0.02)
        self.query = matrix(width, width)
        self.key = matrix(width, width)
        self.value = matrix(width, width)
        self.mix = matrix(width, width, 0.02)
        self.pool = matrix(width, 1, 0.02)
        self.recency = nn.Parameter(torch.tensor([0.1]))
        self.recency_pair = nn.Parameter(torch.tensor([0.1]))
        self.asked = matrix(text_width, width, 0.0)  # a query counts for nothing until it is learned
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, past_BLE: Tensor, kind_BL: Tensor, age_BL: Tensor, mask_BL: Tensor, text_BT: Tensor) -> Tensor:
        """User vectors [B, E]; a user without a past gets the bias and what was asked."""
        hidden_BLE = past_BLE + self.kind[kind_BL]
        logit_BLL = (hidden_BLE @ self.query) @ (hidden_BLE @ self.key).transpose(1, 2) / math.sqrt(self.key.shape[1])
        logit_BLL = logit_BLL - self.recency_pair * age_BL[:, None, :]
        logit_BLL = logit_BLL.masked_fill(~mask_BL[:, None, :], -1e4)
        hidden_BLE = hidden_BLE + torch.softmax(logit_BLL, -1) @ (hidden_BLE @ self.value)
        logit_BL = (hidden_BLE @ self.pool)[..., 0] - self.recency * age_BL
        weight_BL = torch.softmax(logit_BL.masked_fill(~mask_BL, -1e4), -1) * mask_BL
        user_BE = (weight_BL[..., None] * hidden_BLE).sum(1)
        return user_BE + torch.tanh(user_BE @ self.mix) + text_BT @ self.asked + self.bias


class RankingHead(nn.Module):
    """Scores candidates from their match with the user, with each past event, and from causal features."""

    def __init__(self, features: int, settings: ModelSettings) -> None:
        super().__init__()
        width, self.n_features = settings.width, features
        self.attend_candidate = matrix(width, settings.attention_width)
        self.attend_past = matrix(width, settings.attention_width)
        self.recency = nn.Parameter(torch.tensor([0.1]))
        self.match_weight = nn.Parameter(torch.tensor([1.0]))
        self.context_weight = nn.Parameter(torch.tensor([0.5]))
        self.mean = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.deviation = nn.Parameter(torch.ones(features), requires_grad=False)
        inputs = features + 3
        self.cross = nn.ParameterList([matrix(inputs, inputs, 0.01) for _ in range(settings.cross_layers)])
        self.cross_bias = nn.ParameterList([nn.Parameter(torch.zeros(inputs)) for _ in range(settings.cross_layers)])
        self.hidden = matrix(inputs, settings.hidden)
        self.hidden_bias = nn.Parameter(torch.zeros(settings.hidden))
        self.out = matrix(settings.hidden, 1, 0.01)
        self.linear = matrix(inputs, 1, 0.01)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self,
        user_BE: Tensor,
        past_BLE: Tensor,
        age_BL: Tensor,
        mask_BL: Tensor,
        candidate_BCE: Tensor,
        feature_BCF: Tensor,
    ) -> Tensor:
        """Scores [B, C], higher is better."""
        scale = 1.0 / math.sqrt(candidate_BCE.shape[-1])
        match_BC = (candidate_BCE @ user_BE[..., None])[..., 0] * scale
        similar_BCL = candidate_BCE @ past_BLE.transpose(1, 2) * scale
        logit_BCL = (candidate_BCE @ self.attend_candidate) @ (past_BLE @ self.attend_past).transpose(1, 2)
        logit_BCL = logit_BCL / math.sqrt(self.attend_past.shape[1]) - self.recency * age_BL[:, None, :]
        weight_BCL = torch.softmax(logit_BCL.masked_fill(~mask_BL[:, None, :], -1e4), -1) * mask_BL[:, None, :]
        context_BC = (weight_BCL * similar_BCL).sum(-1)
        closest_BC = similar_BCL.masked_fill(~mask_BL[:, None, :], 0.0).amax(-1)
        normal_BCF = torch.clamp((feature_BCF - self.mean) / self.deviation, -4.0, 4.0)
        x0_BCX = torch.cat([normal_BCF, match_BC[..., None], context_BC[..., None], closest_BC[..., None]], -1)
        x_BCX = x0_BCX
        for weight, bias in zip(self.cross, self.cross_bias, strict=True):
            x_BCX = x0_BCX * (x_BCX @ weight + bias) + x_BCX
        hidden_BCH = self.dropout(torch.relu(x_BCX @ self.hidden + self.hidden_bias))
        score_BC: Tensor = (hidden_BCH @ self.out + x_BCX @ self.linear)[..., 0]
        score_BC = score_BC + self.match_weight * match_BC + self.context_weight * context_BC
        return score_BC


class RankingModel(nn.Module):
    """The three towers and what only training needs: residuals per item and the position bias."""

    def __init__(self, text_width: int, kinds: int, features: int, settings: ModelSettings) -> None:
        super().__init__()
        self.item = ItemTower(text_width, settings.width)
        self.user = UserTower(text_width, kinds, settings)
        self.rank = RankingHead(features, settings)
        self.residual = nn.Parameter(torch.zeros(0, settings.width))
        self.position_bias = nn.Parameter(torch.zeros(POSITIONS))

    def grow(self, items: int) -> bool:
        """Make room for new items, whose residual starts at zero. True when the table changed."""
        have = len(self.residual)
        if items <= have:
            return False
        extra = torch.zeros(items - have, self.residual.shape[1], device=self.residual.device)
        self.residual = nn.Parameter(torch.cat([self.residual.detach(), extra]))
        return True

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything dense that a round may change."""
        skipped = {id(self.residual)}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in skipped]
