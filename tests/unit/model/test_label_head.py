"""The label layer: discriminants against the textbook, the regression against its own optimum, labels nobody saw."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from penstock.model.classifier import UNSEEN_BIAS, Classifier
from penstock.model.label_head import LabelledVectors, fit, shared_covariance, softmax_regression


def settings(**changes: Any) -> Any:
    values = {"penalty": 0.1, "iterations": 60, "texts_visited": 0, "shrinkage": 0.2, "discriminant_share": 1.0}
    return SimpleNamespace(**(values | changes))


def clusters(count: int = 90, labels: int = 3, width: int = 6, spread: float = 0.3) -> LabelledVectors:
    generator = torch.Generator().manual_seed(5)
    label_N = torch.arange(count) % labels
    text_NT = torch.eye(width)[label_N] + spread * torch.randn(count, width, generator=generator)
    return LabelledVectors(torch.nn.functional.normalize(text_NT, dim=1), label_N, torch.ones(count))


def test_discriminants_by_hand() -> None:
    # Label 0 at 0 and 2, label 1 at 4 and 6: means 1 and 5, variance within 1, with shrinkage 1 twice that.
    known = LabelledVectors(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1]), torch.ones(4))
    layer = shared_covariance(known, 2, 1.0)
    torch.testing.assert_close(layer, torch.tensor([[0.5, 2.5], [-0.25, -6.25]]))


def test_a_weight_of_two_is_the_text_given_twice() -> None:
    known = clusters(30)
    weight_N = torch.ones(30)
    weight_N[4] = 2.0
    index = torch.tensor([*range(30), 4])
    twice = LabelledVectors(known.text_NT[index], known.label_N[index], torch.ones(31))
    once = LabelledVectors(known.text_NT, known.label_N, weight_N)
    torch.testing.assert_close(shared_covariance(once, 3, 0.2), shared_covariance(twice, 3, 0.2), rtol=1e-3, atol=1e-4)
    fitted = [softmax_regression(one, torch.zeros(7, 3), settings()) for one in (once, twice)]
    torch.testing.assert_close(*fitted, rtol=1e-2, atol=1e-2)


def test_the_regression_ends_where_the_gradient_is_zero_from_any_start() -> None:
    known = clusters()
    begun = [torch.zeros(7, 3), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))]
    first, second = (softmax_regression(known, start, settings()) for start in begun)
    share = torch.softmax(known.text_NT @ first[:-1] + first[-1], 1) - torch.nn.functional.one_hot(known.label_N, 3)
    gradient = known.text_NT.T @ share + 0.1 * first[:-1]
    assert float(gradient.abs().max()) < 0.05
    torch.testing.assert_close(first[:-1], second[:-1], rtol=0.02, atol=0.05)


def test_few_texts_are_given_more_iterations() -> None:
    known = clusters()
    short = softmax_regression(known, torch.zeros(7, 3), settings(iterations=1))
    paid = softmax_regression(known, torch.zeros(7, 3), settings(iterations=1, texts_visited=60 * len(known.label_N)))
    long = softmax_regression(known, torch.zeros(7, 3), settings())
    assert float((short - long).abs().max()) > 0.5
    torch.testing.assert_close(paid, long)


def test_both_parts_weigh_alike_whatever_their_scale() -> None:
    known, network = clusters(), Classifier(6, 3)
    fit(network, known, settings())
    regression = network.start
    total = torch.cat([10.0 * network.weight.detach(), network.bias.detach()[None]])
    extended = torch.cat([known.text_NT, torch.ones(len(known.text_NT), 1)], 1)

    def centred(layer: torch.Tensor) -> torch.Tensor:
        logit = extended @ layer
        return logit - logit.mean(1, keepdim=True)

    added, own = centred(total - regression), centred(regression)
    assert float(added.square().mean().sqrt() / own.square().mean().sqrt()) == pytest.approx(1.0, abs=1e-3)
    assert (network(known.text_NT).argmax(1) == known.label_N).float().mean() > 0.95


def test_a_label_without_a_text_is_never_answered_and_one_text_is_enough() -> None:
    known, network = clusters(labels=3), Classifier(6, 0)
    network.grow(4)
    fit(network, known, settings())
    assert not network.weight[:, 3].any()
    assert float(network.bias.detach()[3]) == UNSEEN_BIAS
    named = torch.zeros(1, 6)
    named[0, 5] = 1.0
    more = LabelledVectors(
        torch.cat([known.text_NT, named]), torch.cat([known.label_N, torch.tensor([3])]), torch.ones(91)
    )
    fit(network, more, settings())
    assert int(network(named).argmax()) == 3
    assert np.isfinite(network.weight.detach().numpy()).all()
