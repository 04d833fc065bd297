"""A device without memory: the same step in smaller pieces, once, then a clean failure."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_bench import catalogue, learned_examples, small_settings

from penstock.errors import TrainingError
from penstock.features.examples import Examples
from penstock.features.state import FeatureSpec
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.learner import Learner
from penstock.training.memory import Memory
from penstock.training.replay import pieces


def full() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand advice")


@pytest.fixture
def small(tmp_path: Path, tiny_encoder: str) -> Settings:
    return small_settings(tmp_path, tiny_encoder, **{"model.dropout": 0.0, "training.rate_adaptation": 0.5})


def learner_of(settings: Settings) -> Learner:
    learner = Learner(settings, FeatureSpec.of(settings))
    learner.add_texts(item_texts(catalogue(12)))
    return learner


def with_room_for(learner: Learner, requests: int) -> list[int]:
    """Let the network run out of memory with more requests at once; the sizes it was asked for."""
    whole, asked = learner.task.loss, []

    def loss(batch: Examples, *rest: Any) -> Any:
        asked.append(len(batch))
        if len(batch) > requests:
            raise full()
        return whole(batch, *rest)

    learner.task.loss = loss
    return asked


def test_a_step_in_pieces_learns_what_a_whole_one_does(small: Settings) -> None:
    _, examples = learned_examples(small)
    usual, poor = learner_of(small), learner_of(small)
    largest = small.training.batch_requests
    asked = with_room_for(poor, largest)  # replay makes later batches half as large again
    for part in (slice(0, 60), slice(60, None)):
        a, b = usual.learn(examples.take(part)), poor.learn(examples.take(part))
        assert [row[0] for row in a.curve] == [row[0] for row in b.curve], "as many steps"
        np.testing.assert_allclose([row[1:] for row in a.curve], [row[1:] for row in b.curve], rtol=2e-4)
    assert sum(size > largest for size in asked) == 1, "from then on every batch comes in pieces"
    assert poor.memory.parts == 2
    mine = poor.network.state_dict()
    for name, value in usual.network.state_dict().items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-5, msg=name)
    torch.testing.assert_close(poor.text_NT, usual.text_NT, rtol=1e-3, atol=1e-5)


def test_what_does_not_fit_in_pieces_either_ends_the_round(small: Settings) -> None:
    _, examples = learned_examples(small)
    learner = learner_of(small)
    asked = with_room_for(learner, 2)
    with pytest.raises(TrainingError, match=r"device cpu is out of memory \(CUDA out of memory\. .*2 GiB\), .* pieces"):
        learner.learn(examples)
    assert asked == [small.training.batch_requests, small.training.batch_requests // 2], "tried again once"


def test_texts_are_encoded_in_smaller_groups(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(small, FeatureSpec.of(small))
    texts = [f"scarf {number}" for number in range(9)]
    monkeypatch.setattr("penstock.model.activations.UPPER_TOKENS", 40)
    monkeypatch.setattr("penstock.model.activations.LOWER_TOKENS", 40)
    whole, sizes = learner.encoder.upper, []

    def upper(kept: torch.Tensor) -> torch.Tensor:
        sizes.append(len(kept))
        if len(sizes) == 1:
            raise full()
        return whole(kept)

    expected = Learner(small, FeatureSpec.of(small)).cache.vectors(texts)
    monkeypatch.setattr(learner.encoder, "upper", upper)
    learner.add_texts(texts)
    assert max(sizes[1:]) <= -(-sizes[0] // 2)
    torch.testing.assert_close(learner.text_NT, expected)


def test_memory_that_runs_out_in_the_middle_of_the_encoders_gradient_leaves_nothing_of_it(small: Settings) -> None:
    _, examples = learned_examples(small)
    usual, poor = learner_of(small), learner_of(small)
    whole, calls = poor.backward_text, []

    def backward_text(*arguments: Any) -> None:
        calls.append(arguments)
        whole(*arguments)
        if len(calls) == 1:
            raise full()

    poor.backward_text = backward_text  # type: ignore[method-assign]
    for learner in (usual, poor):
        learner.learn(examples.take(slice(0, 40)))
    assert len(calls) == 2
    torch.testing.assert_close(poor.text_NT, usual.text_NT, rtol=1e-3, atol=1e-5)


def test_memory_is_let_go_before_the_second_try() -> None:
    """What the failed attempt held must not be held by its traceback while the work is tried again."""
    held: list[weakref.ref[torch.Tensor]] = []

    def work(parts: int) -> int:
        if parts == 1:
            large = torch.zeros(8)
            held.append(weakref.ref(large))
            raise full()
        assert held[0]() is None
        return parts

    assert Memory(torch.device("cpu")).run(work) == 2


def test_pieces_are_the_whole_batch_and_none_is_empty(small: Settings) -> None:
    _, examples = learned_examples(small)
    for count in (1, 2, 3, 16):
        parts = pieces(examples.take(slice(0, count)), 2)
        assert [len(one) for one in parts] == ([1] if count == 1 else [-(-count // 2), count // 2])
