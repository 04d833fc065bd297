"""Losses. B requests, C candidates."""

import torch
from torch import Tensor


def listwise_softmax(score_BC: Tensor, gain_BC: Tensor, offset_BC: Tensor, mask_BC: Tensor) -> Tensor:
    """Gain-weighted negative log-probability of what was chosen, a request weighing the root of its gain.

    With shown items (offset 0, one click) this is the article's formula, minus log softmax of the clicked item. With
    sampled negatives the offset, minus log of each negative's inclusion probability, makes the denominator an estimate
    of the sum over the whole catalogue (sampled softmax: Jean et al., ACL 2015; logQ correction: Yi et al., RecSys
    2019). Several chosen items share the probability: letting each compete with the others only was better for baskets
    and far worse for single choices (decision 0011).

    Args:
        score_BC: float32.
        gain_BC: float32, 0 where not chosen.
        offset_BC: float32, added to a score.
        mask_BC: bool, True where a candidate is real.

    Returns:
        Scalar. Requests without a positive count nothing.
    """
    weight_BC = torch.where(mask_BC, gain_BC, torch.zeros_like(gain_BC))
    loss_BC = -torch.log_softmax((score_BC + offset_BC).masked_fill(~mask_BC, -1e9), 1)
    total_B = weight_BC.sum(1)
    loss_B = (loss_BC * weight_BC).sum(1) / total_B.clamp(min=1e-9)
    root_B = total_B.sqrt()
    return (loss_B * root_B).sum() / root_B.sum().clamp(min=1e-9)
