"""The classifier's weights from every labelled text that is kept: two linear classifiers, their logits added.

A regression finds what separates the labels and needs many texts; class means over one shared covariance (linear
discriminant analysis; online: Hayes & Kanan, CVPR Workshops 2020) are good from a few. Both are linear in the text's
vector, so their sum is one layer: it is exported and served as such (docs/decisions/0007).

N texts, T width of a text vector, K labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from penstock.model.classifier import LOGIT_SCALE, UNSEEN_BIAS, Classifier
from penstock.settings import ClassifierSettings

SMALLEST = 1e-6


@dataclass(frozen=True)
class LabelledVectors:
    """Vectors float32 [N, T], labels int64 [N] in 0..K-1, and how many texts each counts for, float32 [N]."""

    text_NT: Tensor
    label_N: Tensor
    weight_N: Tensor


def fit(classifier: Classifier, known: LabelledVectors, settings: ClassifierSettings) -> None:
    """Set the classifier to what `known` says; labels without a text stay out of the running.

    Cost: a pass of 8·N·T·K operations for each iteration of the regression, and T³/3 once.
    """
    labels = classifier.weight.shape[1]
    seen_K = torch.bincount(known.label_N, minlength=labels) > 0
    regression = softmax_regression(known, classifier.start, settings)
    discriminant = shared_covariance(known, labels, settings.shrinkage)
    spread, other = (_spread(layer[:, seen_K], known.text_NT) for layer in (regression, discriminant))
    layer = regression + settings.discriminant_share * (spread / other) * discriminant
    with torch.no_grad():
        classifier.start.copy_(regression)
        classifier.weight.copy_(torch.where(seen_K, layer[:-1] / LOGIT_SCALE, 0.0))
        classifier.bias.copy_(torch.where(seen_K, layer[-1], UNSEEN_BIAS))


def softmax_regression(known: LabelledVectors, start: Tensor, settings: ClassifierSettings) -> Tensor:
    """Weights and bias [T + 1, K] after some L-BFGS from `start`, L2 on the weights alone.

    Text vectors lie in a narrow cone, where plain L-BFGS crawls: it runs in coordinates in which the curvature, taken
    as one matrix for all labels, is the identity. Few texts are cheap and the start is far, so they get as many
    iterations as `texts_visited` pays for.
    """
    iterations = max(settings.iterations, settings.texts_visited // len(known.label_N))
    total = known.weight_N.sum()
    turn_TT = _turn(known, start, settings.penalty)
    turned_NT = known.text_NT @ turn_TT
    layer = torch.cat([torch.linalg.solve(turn_TT, start[:-1]), start[-1:]]).requires_grad_(True)
    optimizer = torch.optim.LBFGS([layer], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logit_NK = torch.addmm(layer[-1], turned_NT, layer[:-1])
        loss_N = nn.functional.cross_entropy(logit_NK, known.label_N, reduction="none")
        penalty = 0.5 * settings.penalty * (turn_TT @ layer[:-1]).square().sum()
        loss = ((loss_N * known.weight_N).sum() + penalty) / total
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = layer.detach()
    return torch.cat([turn_TT @ found[:-1], found[-1:]])


def _turn(known: LabelledVectors, start: Tensor, penalty: float) -> Tensor:
    """Inverse root [T, T] of the loss's curvature at `start`, the mean over the labels: weights are this times what
    L-BFGS sees."""
    total = known.weight_N.sum()
    share_NK = torch.addmm(start[-1], known.text_NT, start[:-1]).softmax(1)
    bend_N1 = (share_NK * (1 - share_NK)).mean(1, keepdim=True) * known.weight_N[:, None]
    bent_TT = (known.text_NT.T @ (known.text_NT * bend_N1)) / total
    value_T, vector_TT = torch.linalg.eigh(bent_TT + penalty / total * torch.eye(len(bent_TT), device=bent_TT.device))
    turned_TT: Tensor = (vector_TT / value_T.clamp(min=SMALLEST**2).sqrt()) @ vector_TT.T
    return turned_TT


def shared_covariance(known: LabelledVectors, labels: int, shrinkage: float) -> Tensor:
    """Linear discriminants [T + 1, K], equal priors: Λ μ_k and −½ μ_k Λ μ_k, Λ the inverse covariance within labels.

    The covariance is mixed with its mean variance times `shrinkage`, which also makes it invertible.
    """
    text_NT, weight_N1 = known.text_NT, known.weight_N[:, None]
    member_NK = nn.functional.one_hot(known.label_N, labels).to(text_NT.dtype) * weight_N1
    count_K1 = member_NK.sum(0)[:, None]
    mean_KT = (member_NK.T @ text_NT) / count_K1.clamp(min=SMALLEST)
    within_TT = (text_NT.T @ (text_NT * weight_N1) - mean_KT.T @ (mean_KT * count_K1)) / weight_N1.sum()
    variance = within_TT.diagonal().mean().clamp(min=SMALLEST)
    within_TT = within_TT + shrinkage * variance * torch.eye(len(within_TT), device=text_NT.device)
    weight_TK = torch.linalg.solve(within_TT, mean_KT.T)
    return torch.cat([weight_TK, -0.5 * (mean_KT.T * weight_TK).sum(0, keepdim=True)])


def _spread(layer: Tensor, text_NT: Tensor) -> Tensor:
    """Deviation of the logits about each text's mean: what the two scales are made equal by."""
    logit_NK = torch.addmm(layer[-1], text_NT, layer[:-1])
    return (logit_NK - logit_NK.mean(1, keepdim=True)).square().mean().sqrt().clamp(min=SMALLEST)
