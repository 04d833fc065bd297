"""Optimisers, the guard and the reservoir, against hand-worked numbers and chances."""

import numpy as np
import pytest
import torch
from torch import nn

from penstock.errors import TrainingError
from penstock.features.examples import Labelled
from penstock.settings import load_settings
from penstock.training.replay import Reservoir
from penstock.training.steps import (
    RowAdagrad,
    SpikeGuard,
    make_optimizer,
    online_rate,
    optimizer_arrays,
    restore_optimizer,
)


def test_row_adagrad_by_hand() -> None:
    table, rows = torch.zeros(3, 2), RowAdagrad(0.5)
    rows.step(table, torch.tensor([1]), torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(table[1], torch.tensor([-0.3, -0.4]))  # 0.5 / 5
    rows.step(table, torch.tensor([1, 2]), torch.tensor([[0.0, 12.0], [1.0, 0.0]]))
    torch.testing.assert_close(table[1], torch.tensor([-0.3, -0.4 - 0.5 * 12 / 13]))
    torch.testing.assert_close(table[2], torch.tensor([-0.5, 0.0]))
    assert table[0].tolist() == [0.0, 0.0], "a row that was not in the step is not touched"
    rows.step(torch.cat([table, torch.zeros(2, 2)]), torch.tensor([4]), torch.ones(1, 2))
    assert rows.accumulator_N.tolist() == [0.0, 169.0, 1.0, 0.0, 2.0]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops(loss: float) -> None:
    with pytest.raises(TrainingError, match="nothing of this round was kept"):
        SpikeGuard(5.0).check(loss, 3)


def test_a_spike_is_judged_by_the_running_mean() -> None:
    guard = SpikeGuard(5.0)
    guard.check(100.0, 0)
    guard.mean = 1.0
    guard.check(4.9, 1)
    assert guard.mean == pytest.approx(0.95 + 0.05 * 4.9)
    with pytest.raises(TrainingError, match=r"step 2: the loss is 9\.0000, over 5 times"):
        guard.check(9.0, 2)
    assert guard.mean == pytest.approx(0.95 + 0.05 * 4.9), "what was refused does not move the mean"


@pytest.mark.parametrize("name", ["adamw", "adagrad", "ogd"])
def test_an_optimiser_kept_and_restored_takes_the_same_step(name: str) -> None:
    settings = load_settings(environment={}).override({"training.optimizer": name}).training
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [make_optimizer([weight], settings, 0.1) for weight in weights]

    def step(which: int, gradient: float) -> None:
        weights[which].grad = torch.full((3,), gradient)
        optimizers[which].step()

    step(0, 1.0)
    step(0, -0.5)
    kept = {key: value.clone() for key, value in optimizer_arrays(optimizers[0]).items()}
    restore_optimizer(optimizers[1], kept)
    weights[1].data.copy_(weights[0].data)
    step(0, 2.0)
    step(1, 2.0)
    assert torch.equal(weights[0], weights[1])


def test_online_gradient_descent_slows_down() -> None:
    settings = load_settings(environment={})
    ogd = settings.override({"training.optimizer": "ogd"}).training
    assert [online_rate(ogd, 1.0, step) for step in (0, 3, 8)] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert online_rate(settings.training, 1.0, 99) == 1.0


def numbered(start: int, stop: int) -> Labelled:
    return Labelled(np.arange(start, stop), np.zeros(stop - start, np.int64))


def test_every_request_ever_offered_is_kept_with_equal_chance() -> None:
    capacity, offered, trials = 12, 60, 1500
    times = np.zeros(offered)
    random = np.random.default_rng(0)
    for _ in range(trials):
        reservoir, start = Reservoir(capacity), 0
        while start < offered:
            stop = min(offered, start + int(random.integers(1, 25)))
            reservoir.add(numbered(start, stop), random)
            start = stop
        assert reservoir.kept is not None
        assert len(set(reservoir.kept.text_R.tolist())) == capacity == len(reservoir)
        times[reservoir.kept.text_R] += 1
    share = capacity / offered
    error = np.sqrt(share * (1 - share) / trials)
    assert np.abs(times / trials - share).max() < 4.5 * error


def test_a_reservoir_below_capacity_keeps_all_and_one_of_none_keeps_none() -> None:
    random = np.random.default_rng(0)
    reservoir = Reservoir(50)
    assert reservoir.sample(3, random) is None
    reservoir.add(numbered(0, 20), random)
    reservoir.add(numbered(20, 20), random)
    assert reservoir.kept is not None
    assert reservoir.kept.text_R.tolist() == list(range(20))
    sample = reservoir.sample(200, random)
    assert sample is not None
    assert set(sample.text_R.tolist()) <= set(range(20))
    nothing = Reservoir(0)
    nothing.add(numbered(0, 5), random)
    assert len(nothing) == 0
