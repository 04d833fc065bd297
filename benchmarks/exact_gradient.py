"""Exact gradients of every encoder parameter: distinct titles encoded once against every slot encoded and padded.

    python benchmarks/exact_gradient.py [--items 2100] [--requests 4000] [--chunk 16]

Both learn the same loss with tuning `full`: the head steps on every batch, the encoder's gradient adds up over the
round and is then applied once. The plain loop puts each past and shown item of a request through the encoder, padded to
the longest of its batch; ours puts each distinct title of the round through once, after adding up the gradients at its
vector (GRAM: Yang et al., NAACL 2022), and its time includes the step and the new vectors. Their gradients are compared
over a few requests.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import measure
from penstock.features.examples import Examples
from penstock.training.learner import Learner
from workload import SIZES, Workload, make_settings, make_workload

BATCH = 16
FULL = {"text.tuning": "full", "training.text_learning_rate": 2e-5}
COMPARED = 24


class Plain:
    """Each slot through the encoder, padded, with gradients all the way."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        tokens = [encoding.ids for encoding in learner.cache.tokenizer.encode_batch(learner.texts)]
        self.tokens = [torch.tensor(row) for row in tokens]
        self.model = learner.task.model
        self.residual = nn.Parameter(self.model.residual.detach().clone())

    def vectors(self, rows: np.ndarray) -> Tensor:
        """[S, D] by the masked encoder."""
        chosen = [self.tokens[row] for row in rows]
        token_ST = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        mask_ST = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in chosen], batch_first=True)
        bert = self.learner.encoder.bert
        hidden_STD = bert.embeddings(input_ids=token_ST)
        bias = torch.zeros(mask_ST.shape).masked_fill(~mask_ST.bool(), -1e9)[:, None, None]
        for layer in bert.encoder.layer:
            hidden_STD = layer(hidden_STD, bias)
        weight_ST1 = mask_ST[..., None].float()
        return nn.functional.normalize((hidden_STD * weight_ST1).sum(1) / weight_ST1.sum(1), dim=-1)

    def backward(self, batch: Examples) -> None:
        """Add one batch's gradient; every slot is a row of its own."""
        past_S, shown_S = batch.past_row_RL.reshape(-1), batch.row_RC.reshape(-1)
        slot_S = np.concatenate([past_S, shown_S])
        number = np.arange(len(slot_S))
        own = replace(
            batch,
            past_row_RL=number[: len(past_S)].reshape(batch.past_row_RL.shape),
            row_RC=number[len(past_S) :].reshape(batch.row_RC.shape),
        )
        table = self.model.residual
        self.model.residual = nn.Parameter(table.detach()[torch.from_numpy(slot_S)])
        loss, _ = self.learner.task.loss(own, torch.from_numpy(number), self.vectors(slot_S), torch.device("cpu"))
        loss.backward()
        self.model.residual = table


def gradient_error(learner: Learner, batch: Examples) -> float:
    """Norm of the difference of the two gradients, relative to the plain loop's."""
    learner.network.eval()  # dropout would differ
    learner._freshen(batch)  # as the round does before it learns
    parameters = learner.encoder.tuned_parameters()
    learner.encoder.zero_grad()
    plain = Plain(learner)
    halves = [batch.take(slice(0, len(batch) // 2)), batch.take(slice(len(batch) // 2, None))]
    for half in halves:
        plain.backward(half)
    expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    learner.encoder.zero_grad()
    gradient_NT = torch.zeros_like(learner.text_NT)
    for half in halves:
        row_U = torch.from_numpy(learner.task.text_rows(half))
        leaf_UT = learner.text_NT[row_U].requires_grad_(True)
        learner.task.loss(half, row_U, leaf_UT, torch.device("cpu"))[0].backward()
        assert leaf_UT.grad is not None
        gradient_NT[row_U] += leaf_UT.grad
    learner.backward_text(np.flatnonzero(gradient_NT.norm(dim=1).numpy() > 0), gradient_NT)
    found = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    learner.encoder.zero_grad()
    return float((found - expected).norm() / expected.norm())


def measured(work: Workload, chunk: int) -> dict[str, Any]:
    """Both ways, five times each."""
    learner = Learner(work.settings, work.spec)
    learner.add_texts(work.texts)
    learner.learn(work.learned.take(slice(0, BATCH)))  # the first round is another kind of round
    error = gradient_error(learner, work.learned.take(slice(0, COMPARED)))
    round_s = [measure.seconds(lambda: learner.learn(work.learned)) for _ in range(measure.REPEATS)]
    plain = Plain(learner)
    learner.network.train()

    def plain_chunk() -> None:
        for start in range(0, chunk, BATCH):
            learner.head_optimizer.zero_grad(set_to_none=True)
            plain.backward(work.learned.take(slice(start, min(start + BATCH, chunk))))
            learner.head_optimizer.step()

    chunk_s = measure.repeated(plain_chunk)
    requests = len(work.learned)
    once, slotted = requests / measure.median(round_s), chunk / measure.median(chunk_s)
    return {
        "requests": requests,
        "distinct_titles": len(work.texts),
        "once_round_s": round_s,
        "once_requests_per_s": once,
        "slots_chunk_s": chunk_s,
        "slots_chunk_requests": chunk,
        "slots_requests_per_s": slotted,
        "faster_by": once / slotted,
        "relative_gradient_error": error,
        "replayed_per_new_request": learner.settings.training.replay_share,
        "peak_gb": measure.peak_gb(),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=SIZES["simulate.items"])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--chunk", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        # Replay stays on for ours: what it costs is ours to bear.
        settings = make_settings(Path(home), **FULL, **{"simulate.items": options.items})
        work = make_workload(settings, options.requests, 10)
        measure.save("exact_gradient", measured(work, options.chunk))


if __name__ == "__main__":
    main()
