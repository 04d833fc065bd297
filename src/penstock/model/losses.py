"""Losses. B requests, C candidates."""

import torch
from torch import Tensor


def listwise_softmax(score_BC: Tensor, gain_BC: Tensor, offset_BC: Tensor, mask_BC: Tensor) -> Tensor:
    """Mean over requests of the gain-weighted negative log-probability of what was chosen.

    Each positive competes with every candidate of its request that was not chosen. With shown items (offset 0, one
    click) this is the article's formula, minus log softmax of the clicked item. With sampled negatives the offset,
    minus log of each negative's inclusion probability, makes the denominator an estimate of the sum over the whole
    catalogue (sampled softmax: Jean et al., ACL 2015; logQ correction: Yi et al., RecSys 2019).

    Args:
        score_BC: float32.
        gain_BC: float32, 0 where not chosen.
        offset_BC: float32, added to a score.
        mask_BC: bool, True where a candidate is real.

    Returns:
        Scalar. Requests without a positive count nothing.
    """
    chosen_BC = (gain_BC > 0) & mask_BC
    other_BC = (score_BC + offset_BC).masked_fill(chosen_BC | ~mask_BC, -torch.inf)
    others_B1 = torch.logsumexp(torch.cat([other_BC, torch.full_like(other_BC[:, :1], -1e4)], 1), 1, keepdim=True)
    loss_BC = torch.logaddexp(score_BC, others_B1) - score_BC
    weight_BC = torch.where(chosen_BC, gain_BC, torch.zeros_like(gain_BC))
    total_B = weight_BC.sum(1)
    loss_B = (loss_BC.masked_fill(~chosen_BC, 0.0) * weight_BC).sum(1) / total_B.clamp(min=1e-9)
    return loss_B.sum() / (total_B > 0).sum().clamp(min=1)
