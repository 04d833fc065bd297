"""Optimisers over a network's dense part and its sparse rows, and the guard against a spiking loss."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from penstock.errors import TrainingError
from penstock.settings import TrainingSettings

FORGET_STEPS = 10.0


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Sums in one order on the CPU, where gradients of indexed rows otherwise add up in the order threads arrive.

    Measured without it: weights differ by 1e-8 between equal runs on two busy cores. CUDA is left as it is.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def make_optimizer(parameters: Sequence[nn.Parameter], settings: TrainingSettings, learning_rate: float) -> Any:
    """The configured optimiser; `ogd` is plain gradient descent, whose rate the caller lowers by `online_rate`."""
    if settings.optimizer == "adamw":
        fused = parameters[0].is_cuda
        return torch.optim.AdamW(parameters, learning_rate, weight_decay=settings.weight_decay, fused=fused)
    if settings.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, learning_rate, weight_decay=settings.weight_decay)


def online_rate(settings: TrainingSettings, learning_rate: float, step: int) -> float:
    """eta_0 / sqrt(t) for online gradient descent (Zinkevich, ICML 2003), constant otherwise."""
    return learning_rate / (step + 1) ** 0.5 if settings.optimizer == "ogd" else learning_rate


class RowAdagrad:
    """Adagrad with one accumulator per row, touching only the rows of a step (Duchi et al., JMLR 2011)."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.accumulator_N = torch.zeros(0)

    def step(self, table_NE: Tensor, row_U: Tensor, gradient_UE: Tensor) -> None:
        """Move `row_U` of the table against the gradient."""
        if len(self.accumulator_N) < len(table_NE):
            extra = torch.zeros(len(table_NE) - len(self.accumulator_N), device=table_NE.device)
            self.accumulator_N = torch.cat([self.accumulator_N.to(table_NE.device), extra])
        self.accumulator_N[row_U] += gradient_UE.square().sum(1)
        scale_U = self.learning_rate / (self.accumulator_N[row_U].sqrt() + 1e-6)
        table_NE[row_U] -= gradient_UE * scale_U[:, None]


class ProximalPull:
    """Draws weights back towards where the round began: w -= rate x strength x (w - start), apart from the gradient.

    Decoupled from the gradient as AdamW's decay is (Loshchilov and Hutter, ICLR 2019), since Adam's scaling would undo
    a pull inside of it. The quadratic term itself: proximal point (Rockafellar, 1976), FedProx (Li et al., MLSys 2020).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], strength: float) -> None:
        self.strength = strength
        self.parameters = list(parameters) if strength > 0 else []
        self.start = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def pull(self, learning_rate: float) -> None:
        """After an optimiser's step at `learning_rate`; never past the start."""
        share = min(1.0, learning_rate * self.strength)
        for parameter, start in zip(self.parameters, self.start, strict=True):
            parameter.lerp_(start, share)


class WeightAverage:
    """What is served: the mean of the weights that training passed through lately, which is less noisy than the last.

    Polynomial decay at first, so that the first weights are soon forgotten (Shamir and Zhang, ICML 2013), then an
    exponential one (Polyak and Juditsky, 1992; Tarvainen and Valpola, NeurIPS 2017). Between rounds the parameters hold
    the mean and `live` the trained weights; `training` exchanges them for the time of a round.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = list(parameters) if decay > 0 else []
        self.live = [parameter.detach().clone() for parameter in self.parameters]
        self._mean: list[Tensor] = []

    @contextmanager
    def training(self) -> Iterator[None]:
        """The parameters hold the trained weights in here. A round that raises is not to be gone on with."""
        with torch.no_grad():
            self._mean = [parameter.detach().clone() for parameter in self.parameters]
            for parameter, live in zip(self.parameters, self.live, strict=True):
                parameter.copy_(live)
        yield
        with torch.no_grad():
            for parameter, live, mean in zip(self.parameters, self.live, self._mean, strict=True):
                live.copy_(parameter)
                parameter.copy_(mean)
        self._mean = []

    @torch.no_grad()
    def take(self, step: int) -> None:
        """After optimiser step number `step`, from 1."""
        share = 1.0 - min(self.decay, step / (step + FORGET_STEPS))
        for mean, parameter in zip(self._mean, self.parameters, strict=True):
            mean.lerp_(parameter, share)


class PrequentialRate:
    """Learning rate from the loss of new requests before they are learned: (loss / running mean) ** power, bounded.

    A window that the model finds harder than the ones before says that the world has moved, so it is learned faster.
    """

    def __init__(self, power: float, bound: float, mean: float | None = None) -> None:
        self.power, self.bound, self.mean = power, bound, mean
        self.factor = 1.0

    def take(self, loss: float) -> float:
        """The factor for this round; the running mean over some five rounds takes the loss in after it."""
        before, self.mean = self.mean, loss if self.mean is None else 0.8 * self.mean + 0.2 * loss
        if before is None or before <= 0 or loss <= 0:
            self.factor = 1.0
        else:
            self.factor = float(min(self.bound, max(1.0 / self.bound, (loss / before) ** self.power)))
        return self.factor


class SpikeGuard:
    """Stops a round whose loss is not finite, or far above its running mean."""

    def __init__(self, factor: float, mean: float | None = None) -> None:
        self.factor, self.mean = factor, mean

    def check(self, loss: float, step: int) -> None:
        """Raises TrainingError when the step's loss may not be learned from."""
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise TrainingError(f"step {step}: the loss is {loss}; nothing of this round was kept")
        if self.mean is not None and loss > self.factor * max(self.mean, 0.05):
            raise TrainingError(
                f"step {step}: the loss is {loss:.4f}, over {self.factor:g} times its running mean {self.mean:.4f}; "
                "nothing of this round was kept (training.spike_factor)"
            )
        self.mean = loss if self.mean is None else 0.95 * self.mean + 0.05 * loss


def optimizer_arrays(optimizer: Any) -> dict[str, Tensor]:
    """Moments of every parameter, by position and name."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value, dtype=torch.float32).contiguous()
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: Any, arrays: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_arrays`."""
    tree = optimizer.state_dict()
    for key, value in arrays.items():
        index, name = key.split(".", 1)
        tree["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(tree)
