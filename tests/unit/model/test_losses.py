"""The listwise softmax against numbers worked out by hand."""

import math

import pytest
import torch

from penstock.model.losses import listwise_softmax


def loss(
    score: list[list[float]],
    gain: list[list[float]],
    offset: list[list[float]] | None = None,
    mask: list[list[bool]] | None = None,
) -> float:
    scores = torch.tensor(score)
    offsets = torch.zeros_like(scores) if offset is None else torch.tensor(offset)
    masks = torch.ones_like(scores, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return float(listwise_softmax(scores, torch.tensor(gain), offsets, masks))


def test_a_clicked_item_of_probability_a_tenth() -> None:
    assert loss([[math.log(0.1), math.log(0.9)]], [[1.0, 0.0]]) == pytest.approx(2.302585, abs=1e-6)


@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
def test_only_differences_of_scores_count(shift: float) -> None:
    scores = [math.log(0.5) + shift, math.log(0.3) + shift, math.log(0.2) + shift]
    assert loss([scores], [[0.0, 1.0, 0.0]]) == pytest.approx(-math.log(0.3), abs=1e-4)


def test_chosen_items_share_the_probability() -> None:
    score = [[1.0, 2.0, 0.5]]
    total = math.log(sum(math.exp(one) for one in score[0]))
    assert loss(score, [[1.0, 1.0, 0.0]]) == pytest.approx((total - 1.0 + total - 2.0) / 2, rel=1e-5)
    assert loss(score, [[3.0, 1.0, 0.0]]) == pytest.approx((3 * (total - 1.0) + total - 2.0) / 4, rel=1e-5)


def test_a_request_weighs_the_root_of_its_gain() -> None:
    one, other = [0.0, 0.0, -1e9], [0.0, 0.0, 0.0]
    both = loss([one, other], [[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    assert both == pytest.approx((math.log(2) + 2 * math.log(3)) / 3, rel=1e-5)


def test_an_offset_makes_one_negative_stand_for_many() -> None:
    one_for_eight = loss([[0.3, 0.1]], [[1.0, 0.0]], [[0.0, math.log(8)]])
    eight = loss([[0.3] + [0.1] * 8], [[1.0] + [0.0] * 8])
    assert one_for_eight == pytest.approx(eight, rel=1e-5)


def test_padding_and_requests_without_a_choice_count_nothing() -> None:
    alone = loss([[0.2, 0.7]], [[1.0, 0.0]])
    padded = loss([[0.2, 0.7, 99.0]], [[1.0, 0.0, 0.0]], mask=[[True, True, False]])
    beside = loss([[0.2, 0.7], [5.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]])
    assert padded == pytest.approx(alone)
    assert beside == pytest.approx(alone)


def test_nothing_chosen_at_all_is_zero_with_a_finite_gradient() -> None:
    score = torch.tensor([[1.0, 2.0]], requires_grad=True)
    value = listwise_softmax(score, torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0.0
    assert score.grad is not None
    assert torch.isfinite(score.grad).all()


def test_the_gradient_is_probability_minus_choice() -> None:
    score = torch.tensor([[0.1, 0.9, -0.4]], requires_grad=True)
    gain = torch.tensor([[0.0, 1.0, 0.0]])
    listwise_softmax(score, gain, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)).backward()
    assert score.grad is not None
    torch.testing.assert_close(score.grad, torch.softmax(score.detach(), 1) - gain)
