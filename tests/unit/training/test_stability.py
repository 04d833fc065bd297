"""What keeps online learning steady: the pull to where a round began, and the rate that follows the loss."""

from pathlib import Path

import pytest
import torch
from core_bench import catalogue, learned_examples, small_settings
from torch import nn

from penstock.features.examples import Examples
from penstock.features.state import FeatureSpec
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
from penstock.training.learner import Learner
from penstock.training.steps import PrequentialRate, ProximalPull, WeightAverage


@pytest.fixture
def small(tmp_path: Path, tiny_encoder: str) -> Settings:
    return small_settings(tmp_path, tiny_encoder)


def warmed(settings: Settings) -> tuple[Learner, Examples]:
    """A learner after its first round, and what comes next."""
    _, examples = learned_examples(settings)
    learner = Learner(settings, FeatureSpec.of(settings))
    learner.add_texts(item_texts(catalogue(12)))
    learner.learn(examples.take(slice(0, 60)))
    return learner, examples.take(slice(60, None))


def moved(settings: Settings) -> tuple[float, float]:
    """How far the dense weights, and the encoder's, went in the second round."""
    learner, new = warmed(settings)
    groups = (learner.task.head_parameters(), learner.encoder.tuned_parameters())
    before = [[value.detach().clone() for value in group] for group in groups]
    learner.learn(new)
    head, text = (
        float(sum((value.detach() - old).square().sum() for value, old in zip(group, start, strict=True))) ** 0.5
        for group, start in zip(groups, before, strict=True)
    )
    return head, text


def test_the_pull_goes_a_share_of_the_way_back_and_never_past_the_start() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    pull, far = ProximalPull([weight], 20.0), ProximalPull([weight], 5000.0)
    weight.data += 1.0
    pull.pull(0.01)
    torch.testing.assert_close(weight.data, torch.tensor([1.8, 2.8]))
    far.pull(0.01)
    torch.testing.assert_close(weight.data, torch.tensor([1.0, 2.0]))
    weight.data += 1.0
    ProximalPull([weight], 0.0).pull(0.01)
    torch.testing.assert_close(weight.data, torch.tensor([2.0, 3.0]))


def test_a_pull_keeps_head_and_encoder_nearer_to_where_the_round_began(small: Settings) -> None:
    free, pulled = moved(small), moved(small.override({"training.proximal": 100.0}))
    assert 0 < pulled[0] < 0.9 * free[0]
    assert 0 < pulled[1] < 0.99 * free[1]


def test_the_first_round_has_nothing_to_be_pulled_to(small: Settings) -> None:
    free, pulled = (warmed(small.override({"training.proximal": value}))[0] for value in (0.0, 100.0))
    assert all(torch.equal(a, b) for a, b in zip(free.network.parameters(), pulled.network.parameters(), strict=True))


def test_the_rate_rises_when_the_loss_does_within_bounds() -> None:
    rate = PrequentialRate(power=2.0, bound=2.0)
    assert rate.take(1.0) == 1.0, "nothing to compare the first window with"
    assert rate.take(1.2) == pytest.approx(1.44)
    assert rate.mean == pytest.approx(1.04)
    assert rate.take(10.0) == 2.0
    assert rate.take(0.1) == 0.5


def test_a_round_learns_at_the_rate_its_own_loss_asks_for(small: Settings) -> None:
    settings = small.override({"training.rate_adaptation": 4.0, "training.rate_bound": 10.0})
    learner, new = warmed(settings)
    losses = [learner.loss_of(new)]
    assert learner.learn(new).rate_factor == 1.0
    losses.append(learner.loss_of(new))
    report = learner.learn(new)
    assert report.rate_factor == pytest.approx((losses[1] / losses[0]) ** 4)
    assert report.curve[0][2] == pytest.approx(settings.training.learning_rate * report.rate_factor)
    assert warmed(small)[0].learn(new).rate_factor == 1.0, "off by default"


def test_the_running_loss_comes_back_with_a_checkpoint(small: Settings, tmp_path: Path) -> None:
    settings = small.override({"training.rate_adaptation": 1.0})
    state, _ = learned_examples(settings)
    learner, new = warmed(settings)
    learner.learn(new)
    save_checkpoint(learner, state, Carried(), tmp_path / "checkpoint")
    assert load_checkpoint(tmp_path / "checkpoint", settings)[0].rate.mean == learner.rate.mean


def test_what_is_served_is_the_mean_and_training_goes_on_from_the_last_weights() -> None:
    weight = nn.Parameter(torch.tensor([8.0]))
    average = WeightAverage([weight], decay=0.5)
    with average.training():
        with torch.no_grad():
            weight.fill_(4.0)
        average.take(1)  # the first weights weigh 1 / 11
    assert weight.item() == pytest.approx(8 / 11 + 4 * 10 / 11)
    with average.training():
        assert weight.item() == 4.0
        with torch.no_grad():
            weight.fill_(2.0)
        average.take(100)  # from here on, half
    assert weight.item() == pytest.approx((8 / 11 + 4 * 10 / 11) / 2 + 1.0)
    assert [live.item() for live in average.live] == [2.0]


def test_without_averaging_the_last_weights_are_served() -> None:
    weight = nn.Parameter(torch.tensor([8.0]))
    average = WeightAverage([weight], decay=0.0)
    with average.training():
        with torch.no_grad():
            weight.fill_(4.0)
        average.take(1)
    assert weight.item() == 4.0
    assert average.live == []
