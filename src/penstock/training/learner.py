"""The learner: one encoder, one network, and what they have learned from.

Each distinct text is encoded once; the network's steps see its vector as a leaf, whose gradients add up, and the
encoder is then stepped once over the texts with the largest gradient (gradient accumulation at the vector as in
GRAM, Yang et al., NAACL 2022). So the encoder's cost does not grow with the number of events.

U distinct texts in a step, T width of a text vector, N texts in the table.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.errors import TrainingError
from penstock.features.state import FeatureSpec
from penstock.model.activations import ActivationCache
from penstock.model.text_encoder import TextEncoder, tokenizer_of
from penstock.settings import Settings
from penstock.training.classify_task import ClassifyTask
from penstock.training.memory import Memory
from penstock.training.replay import Batch, Reservoir, join, pieces
from penstock.training.steps import (
    PrequentialRate,
    ProximalPull,
    RowAdagrad,
    SpikeGuard,
    WeightAverage,
    make_optimizer,
    online_rate,
    repeatable,
)
from penstock.training.tasks import TASKS


@dataclass
class LearnReport:
    """One round of learning. `curve`: (step, loss, rate, gradient norm); `rate_factor`: see PrequentialRate."""

    requests: int = 0
    replayed: int = 0
    seconds: float = 0.0
    text_seconds: float = 0.0
    rate_factor: float = 1.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean loss over the round's steps."""
        return float(np.mean([row[1] for row in self.curve])) if self.curve else float("nan")


def pick_device() -> torch.device:
    """CUDA where there is a working GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Learner:
    """See the module. `texts` is row-aligned with the items (rank) or with the texts seen this round (classify)."""

    def __init__(self, settings: Settings, spec: FeatureSpec, device: torch.device | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.spec = settings, spec
        self.device = device or pick_device()
        self.memory = Memory(self.device)
        self.encoder = TextEncoder(settings.text).to(self.device)
        folder = settings.state.home / "activations"
        self.cache = ActivationCache(
            self.encoder, tokenizer_of(settings.text), self.device, folder, settings.text.cache_mb
        )
        self.task = TASKS[settings.task](settings, spec, self.encoder.width)
        self.network: nn.Module = self.task.network.to(self.device)
        self.texts: list[str] = []
        self.text_NT = torch.zeros(0, self.encoder.width)
        self.stale_N = np.zeros(0, bool)  # the encoder has moved since the vector was made
        classifies = settings.task == "classify"
        self.reservoir = Reservoir(
            settings.classifier.memory_texts if classifies else settings.training.replay_capacity
        )
        self.rounds = 0
        self.last_report = LearnReport()
        self.step_count = 0
        self.guard = SpikeGuard(settings.training.spike_factor)
        self.rate = PrequentialRate(settings.training.rate_adaptation, settings.training.rate_bound)
        self.rows = RowAdagrad(settings.training.residual_learning_rate)
        self.head_optimizer = self.make_head_optimizer()
        # A label layer is fitted whole each round: there are no steps to average.
        self.average = WeightAverage(self.task.head_parameters(), 0.0 if classifies else settings.training.averaging)
        tuned = self.encoder.tuned_parameters()
        rate = settings.training.text_learning_rate
        fused = self.device.type == "cuda"
        self.text_optimizer = torch.optim.AdamW(tuned, rate, weight_decay=0.0, fused=fused) if tuned else None

    def make_head_optimizer(self) -> Any:
        """A fresh optimiser over the network's dense weights."""
        settings = self.settings.training
        return make_optimizer(self.task.head_parameters(), settings, settings.learning_rate)

    def add_texts(self, texts: list[str]) -> None:
        """Append texts to the table and encode the new ones.

        Raises:
            TrainingError: the device has too little memory.
        """
        if texts:
            self.text_NT = torch.cat([self.text_NT, self._vectors(texts)])
            self.texts.extend(texts)
            self.stale_N = np.concatenate([self.stale_N, np.zeros(len(texts), bool)])
            self.task.grow(len(self.texts))

    def add_labels(self, count: int) -> None:
        """Make room for `count` labels in all; the optimiser starts anew when their number changed."""
        if self.task.grow_labels(count):
            self.head_optimizer = self.make_head_optimizer()

    def learn(self, examples: Batch) -> LearnReport:
        """Learn from new requests and some old ones, then move the encoder; deterministic given seed and round.

        Raises:
            TrainingError: the loss is not finite or spikes, or the device has too little memory.
        """
        with repeatable(self.device):
            return self._learn(examples)

    def _learn(self, examples: Batch) -> LearnReport:
        settings = self.settings.training
        seed = (self.settings.seed * 1_000_003 + self.rounds) % 2**31
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        report = LearnReport(requests=len(examples))
        started = time.perf_counter()
        self._freshen(examples)
        warmup = self.rounds == 0
        gradient_NT = torch.zeros_like(self.text_NT)
        if isinstance(self.task, ClassifyTask):
            steps = self._fit(examples, report, gradient_NT)
        else:
            if warmup and len(examples):
                self.task.fit_scale(examples)
            steps = 0
            if not warmup and len(examples) and settings.rate_adaptation > 0:
                report.rate_factor = self.rate.take(self.loss_of(examples))
            with self.average.training():
                steps = self._take_steps(examples, random, report, gradient_NT)
        report.seconds = time.perf_counter() - started
        if steps:
            started = time.perf_counter()
            self._step_text(gradient_NT / steps)
            report.text_seconds = time.perf_counter() - started
        self.reservoir.add(examples, random)
        self.rounds += 1
        self.last_report = report
        return report

    def _take_steps(
        self, examples: Batch, random: np.random.Generator, report: LearnReport, gradient_NT: Tensor
    ) -> int:
        settings = self.settings.training
        warmup = self.rounds == 0
        pull = ProximalPull(self.task.head_parameters(), 0.0 if warmup else settings.proximal)
        self.network.train()
        for batch, replayed in self._batches(examples, random, settings.warmup_epochs if warmup else settings.epochs):
            report.replayed += replayed
            report.curve.append(self._step(batch, gradient_NT))
            pull.pull(report.curve[-1][2])
            self.average.take(self.step_count)
        self.network.eval()
        return len(report.curve)

    @torch.no_grad()
    def loss_of(self, examples: Batch) -> float:
        """Mean loss of requests as the weights are, before they are learned from; nothing moves."""
        return self.memory.run(lambda parts: self._loss_of(examples, parts))

    def _loss_of(self, examples: Batch, parts: int) -> float:
        size = max(1, self.settings.training.batch_requests // parts)
        total = 0.0
        for start in range(0, len(examples), size):
            batch = examples.take(slice(start, start + size))
            row_U = torch.from_numpy(self.task.text_rows(batch))
            loss, _ = self.task.loss(batch, row_U, self.text_NT[row_U].to(self.device), self.device)
            total += float(loss) * len(batch)
        return total / len(examples)

    def _fit(self, examples: Batch, report: LearnReport, gradient_NT: Tensor) -> int:
        """Fit the label layer to all that is kept, as one step."""
        if not len(examples):
            return 0
        kept = self.reservoir.kept
        loss = self.memory.run(lambda _: self.task.fit(kept, examples, self.text_NT, gradient_NT))
        self.step_count += 1
        report.replayed = 0 if kept is None else len(kept)
        report.curve.append((self.step_count, loss, 0.0, float(gradient_NT.norm())))
        return 1

    def _batches(self, examples: Batch, random: np.random.Generator, epochs: int) -> Iterator[tuple[Batch, int]]:
        settings = self.settings.training
        for _ in range(epochs):
            order = random.permutation(len(examples))
            for start in range(0, len(order), settings.batch_requests):
                fresh = examples.take(order[start : start + settings.batch_requests])
                old = self.reservoir.sample(round(len(fresh) * settings.replay_share), random)
                yield (fresh, 0) if old is None else (join([fresh, old]), len(old))

    def _step(self, batch: Batch, gradient_NT: Tensor) -> tuple[int, float, float, float]:
        settings = self.settings.training
        rate = online_rate(settings, settings.learning_rate * self.rate.factor, self.step_count)
        for group in self.head_optimizer.param_groups:
            group["lr"] = rate
        row_U = torch.from_numpy(self.task.text_rows(batch))
        leaf_UT = self.text_NT[row_U].to(self.device).requires_grad_(True)
        value, residual_UE = self.memory.run(lambda parts: self._backward(batch, row_U, leaf_UT, parts))
        self.guard.check(value, self.step_count)
        norm = float(nn.utils.clip_grad_norm_(self.task.head_parameters(), settings.max_gradient_norm))
        if not math.isfinite(norm):
            raise TrainingError(f"step {self.step_count}: the gradient norm is {norm}; nothing of this round was kept")
        self.head_optimizer.step()
        if residual_UE is not None:
            self.rows.step(self.task.residual.data, row_U.to(self.device), residual_UE)
        if leaf_UT.grad is not None:
            gradient_NT[row_U] += leaf_UT.grad.float().cpu()
        self.step_count += 1
        return self.step_count, value, rate, norm

    def _backward(self, batch: Batch, row_U: Tensor, leaf_UT: Tensor, parts: int) -> tuple[float, Tensor | None]:
        """Add up a batch's gradients over `parts` pieces of it, whose losses weigh what they have of its weight.

        Returns:
            The batch's loss, and the gradient at the residuals of its rows.
        """
        self.head_optimizer.zero_grad(set_to_none=True)
        leaf_UT.grad, residual_UE, value = None, None, 0.0
        weights = [self.task.weight(piece) for piece in pieces(batch, parts)]
        whole = sum(weights)
        for piece, weight in zip(pieces(batch, parts), weights, strict=True):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss, sparse = self.task.loss(piece, row_U, leaf_UT, self.device)
            share = weight / whole if whole else 1.0  # without a positive the loss is 0
            (loss * share).backward()
            value += float(loss.detach()) * share
            if sparse is not None and sparse.grad is not None:
                residual_UE = sparse.grad if residual_UE is None else residual_UE + sparse.grad
        return value, residual_UE

    def _step_text(self, gradient_NT: Tensor) -> None:
        settings = self.settings.training
        if self.text_optimizer is None or not settings.text_steps_per_round or settings.text_learning_rate == 0:
            return
        size_N = gradient_NT.norm(dim=1)
        active = np.flatnonzero(size_N.numpy() > 0)
        if not len(active):
            return
        learned = active
        if self.settings.text.tuning != "full":  # full takes all, so that its gradient is exact
            largest = torch.argsort(size_N, descending=True, stable=True)[: settings.text_items_per_step]
            learned = np.intersect1d(active, largest.numpy())
        tuned = self.encoder.tuned_parameters()
        pull = ProximalPull(tuned, settings.proximal if self.rounds else 0.0)
        for _ in range(settings.text_steps_per_round):
            self.memory.run(lambda parts: self._backward_anew(learned, gradient_NT, parts))
            nn.utils.clip_grad_norm_(tuned, settings.max_gradient_norm)
            self.text_optimizer.step()
            pull.pull(settings.text_learning_rate)
        self.stale_N[:] = True
        # The rest of the catalogue takes turns, so that a round costs what it learned from and not what there is.
        count = min(settings.text_refresh_items, len(self.texts))
        in_turn = (self.rounds * settings.text_refresh_items + np.arange(count)) % len(self.texts)
        self.refresh(np.union1d(active, in_turn))

    def _backward_anew(self, row_U: NDArray[np.int64], gradient_NT: Tensor, parts: int) -> None:
        assert self.text_optimizer is not None
        self.text_optimizer.zero_grad(set_to_none=True)
        self.backward_text(row_U, gradient_NT, parts)

    def backward_text(self, row_U: NDArray[np.int64], gradient_NT: Tensor, parts: int = 1) -> None:
        """Add to the encoder's gradients what flows back from the vectors of `row_U`, each text encoded once."""
        for picked, kept in self.cache.batches([self.texts[row] for row in row_U], parts):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                vector_BT = self.encoder.upper(kept)
            torch.autograd.backward(vector_BT.float(), gradient_NT[row_U[picked]].to(self.device))

    def refresh(self, row_U: NDArray[np.int64]) -> None:
        """Bring the vectors of `row_U` up to the encoder as it is now."""
        self.text_NT[torch.from_numpy(row_U)] = self._vectors([self.texts[row] for row in row_U])
        self.stale_N[row_U] = False

    def _vectors(self, texts: list[str]) -> Tensor:
        return self.memory.run(lambda parts: self.cache.vectors(texts, parts))

    def _freshen(self, examples: Batch) -> None:
        """With full tuning nothing is learned at a stale vector, replay included: its gradient would not be exact.

        Measured without it, in a second round: a relative error of 0.02 instead of below 1e-5.
        """
        if self.settings.text.tuning != "full":
            return
        parts = [part for part in (examples, self.reservoir.kept) if part is not None and len(part)]
        for part in parts:
            row_U = self.task.text_rows(part)
            self.refresh(row_U[self.stale_N[row_U]])
