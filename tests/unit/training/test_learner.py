"""The learner: deterministic, resumable, and stopped by a loss that went wrong."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_bench import catalogue, event, learned_examples, small_settings, table

from penstock.errors import BundleError, TrainingError
from penstock.features.examples import Examples, Labelled
from penstock.features.state import CausalState, FeatureSpec
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
from penstock.training.learner import Learner
from penstock.training.replay import Batch


@pytest.fixture
def small(tmp_path: Path, tiny_encoder: str) -> Settings:
    return small_settings(tmp_path, tiny_encoder, **{"model.dropout": 0.2})


def learner_of(settings: Settings, items: int = 12) -> Learner:
    learner = Learner(settings, FeatureSpec.of(settings))
    learner.add_texts(item_texts(catalogue(items)))
    return learner


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    text = {f"text.{name}": value.clone() for name, value in learner.encoder.tuned_state().items()}
    return {**{name: value.clone() for name, value in learner.network.state_dict().items()}, **text}


def halves(settings: Settings) -> tuple[CausalState, Examples, Examples]:
    state, examples = learned_examples(settings)
    return state, examples.take(slice(0, 60)), examples.take(slice(60, None))


def test_the_same_seed_gives_the_same_weights_to_the_bit(small: Settings) -> None:
    _, first, second = halves(small)
    learners = [learner_of(small) for _ in range(2)]
    for learner in learners:
        learner.learn(first)
        learner.learn(second)
    a, b = (weights(learner) for learner in learners)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert learners[0].last_report.curve == learners[1].last_report.curve
    other = learner_of(small.override({"seed": 8}))
    other.learn(first)
    other.learn(second)
    assert not torch.equal(weights(other)["rank.out"], a["rank.out"])


def test_everything_that_should_move_moves_and_replay_is_counted_apart(small: Settings) -> None:
    _, first, second = halves(small)
    learner = learner_of(small)
    before, text_before = weights(learner), learner.text_NT.clone()
    report = learner.learn(first)
    assert (report.requests, report.replayed) == (60, 0), "nothing was learned before, so nothing is replayed"
    after = weights(learner)
    for name in ("item.projection", "user.query", "rank.cross.0", "residual"):
        assert not torch.equal(before[name], after[name]), name
    assert any(name.startswith("text.") and not torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(text_before, learner.text_NT)
    report = learner.learn(second)
    assert report.replayed == pytest.approx(0.5 * len(second), abs=2)
    assert len(learner.reservoir) == small.training.replay_capacity


def test_learning_lowers_the_loss(small: Settings) -> None:
    _, first, _ = halves(small)
    learner = learner_of(small.override({"model.dropout": 0.0, "training.learning_rate": 0.02}))
    losses = [learner.learn(first).loss for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]


def test_killed_and_resumed_equals_uninterrupted(small: Settings, tmp_path: Path) -> None:
    state, first, second = halves(small)
    learner = learner_of(small)
    learner.learn(first)
    carried = Carried(["s1"], second.take(slice(0, 4)), "7", uncounted=table([event(7, 1.0)]))
    save_checkpoint(learner, state, carried, tmp_path / "checkpoint")
    killed, _, _ = load_checkpoint(tmp_path / "checkpoint", small)
    killed.learn(second.take(slice(0, 20)))  # and dies here
    resumed, state_again, carried_again = load_checkpoint(tmp_path / "checkpoint", small)
    assert (carried_again.snapshots, carried_again.version) == (["s1"], "7")
    assert carried_again.uncounted is not None
    assert carried_again.uncounted["event_id"].to_list() == ["e00007"]
    assert carried_again.held_out is not None
    np.testing.assert_array_equal(carried_again.held_out.feature_RCF, second.feature_RCF[:4])
    assert state_again.items == state.items
    once_more, _, _ = load_checkpoint(tmp_path / "checkpoint", small)
    reports = [one.learn(second) for one in (learner, resumed, once_more)]
    a, b, c = (weights(one) for one in (learner, resumed, once_more))
    assert all(torch.equal(b[name], c[name]) for name in b), "two that resume are equal to the bit"
    for name in a:  # one that went on has the same, up to the rounding of its cached activations
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4, msg=name)
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-4)
    assert (learner.step_count, learner.reservoir.seen) == (resumed.step_count, resumed.reservoir.seen)
    assert torch.equal(learner.rows.accumulator_N > 0, resumed.rows.accumulator_N > 0)


def test_new_items_after_a_restart_begin_at_zero(small: Settings, tmp_path: Path) -> None:
    state, first, second = halves(small)
    learner = learner_of(small)
    learner.learn(first)
    save_checkpoint(learner, state, Carried(), tmp_path / "checkpoint")
    resumed, _, _ = load_checkpoint(tmp_path / "checkpoint", small)
    resumed.add_texts(["a hat", "a much longer text about a hat"])
    residual = resumed.task.residual
    assert residual.shape[0] == 14
    assert residual[:12].any()
    assert not residual[12:].any()
    resumed.learn(second)
    assert not resumed.task.residual[12:].any(), "nobody was shown them"


def test_a_learning_rate_beyond_reason_is_stopped(small: Settings) -> None:
    _, first, _ = halves(small)
    learner = learner_of(small.override({"training.learning_rate": 1e8}))

    def four_rounds() -> None:
        for _ in range(4):
            learner.learn(first)

    with pytest.raises(TrainingError, match="nothing of this round was kept"):
        four_rounds()


def test_a_weight_that_is_not_finite_is_never_written(small: Settings, tmp_path: Path) -> None:
    state, _, _ = halves(small)
    learner = learner_of(small)
    save_checkpoint(learner, state, Carried(), tmp_path / "checkpoint")
    with torch.no_grad():
        learner.task.model.rank.out[0] = float("nan")
    with pytest.raises(TrainingError, match=r"rank\.out holds a value that is not finite"):
        save_checkpoint(learner, state, Carried(), tmp_path / "checkpoint")
    load_checkpoint(tmp_path / "checkpoint", small)


def test_a_checkpoint_that_cannot_be_used_says_why(small: Settings, tmp_path: Path) -> None:
    state, _, _ = halves(small)
    save_checkpoint(learner_of(small), state, Carried(), tmp_path / "checkpoint")
    with pytest.raises(BundleError, match="another architecture"):
        load_checkpoint(tmp_path / "checkpoint", small.override({"model.width": 12}))
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "cut")
    path = tmp_path / "cut" / "learner.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match="cannot be read"):
        load_checkpoint(tmp_path / "cut", small)


def classifier(small: Settings) -> Learner:
    """Three labels and twelve texts at right angles, which the encoder leaves where they are."""
    learner = Learner(small.override({"task": "classify", "text.tuning": "frozen"}), FeatureSpec.of(small))
    learner.add_labels(3)
    learner.add_texts(item_texts(catalogue(12, 12)))
    learner.text_NT = torch.eye(12, learner.encoder.width)
    return learner


def guess(learner: Learner) -> list[int]:
    with torch.no_grad():
        return learner.network(learner.text_NT).argmax(1).tolist()  # type: ignore[no-any-return]


def test_a_classifier_learns_three_labels_and_takes_a_fourth(small: Settings) -> None:
    learner = classifier(small)
    report = learner.learn(Labelled(np.arange(9).repeat(8), (np.arange(9) % 3).repeat(8)))
    assert (report.requests, report.replayed, len(report.curve)) == (72, 0, 1)
    assert guess(learner)[:9] == [0, 1, 2] * 3
    learner.add_labels(4)
    assert 3 not in guess(learner)
    assert learner.learn(Labelled(np.array([9, 10]), np.array([3, 3]))).replayed == 72
    assert guess(learner)[:11] == [*([0, 1, 2] * 3), 3, 3]


def test_a_label_nobody_used_yet_is_known_by_its_name(small: Settings) -> None:
    learner = classifier(small)
    learner.task.name_row_K = np.array([9, 10, 11])
    learner.learn(Labelled(np.arange(8), np.arange(8) % 2))
    assert guess(learner)[11] == 2


def test_what_a_classifier_learned_comes_back_and_goes_on_alike(small: Settings, tmp_path: Path) -> None:
    learner = classifier(small)
    learner.learn(Labelled(np.arange(9), np.arange(9) % 3))
    save_checkpoint(learner, CausalState(learner.spec), Carried(), tmp_path / "kept")
    again, _, _ = load_checkpoint(tmp_path / "kept", learner.settings)
    for one in (learner, again):
        one.learn(Labelled(np.array([9, 10, 11]), np.array([0, 1, 1])))
    for name, value in learner.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def count_encoded(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each run of the tuned part takes, from now on."""
    counts: list[int] = []
    upper = learner.encoder.upper
    monkeypatch.setattr(learner.encoder, "upper", lambda kept: (counts.append(len(kept)), upper(kept))[1])
    return counts


def test_a_text_whose_encoder_did_not_move_is_not_encoded_again(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, second = halves(small)
    learner = learner_of(small.override({"text.tuning": "frozen"}))
    before = learner.text_NT.clone()
    counts = count_encoded(learner, monkeypatch)
    learner.learn(first)
    learner.add_texts(["a hat"])
    learner.learn(second)
    assert counts == [1], "only the new one"
    assert torch.equal(learner.text_NT[:-1], before)


def test_after_a_step_what_was_learned_from_is_fresh_and_the_rest_takes_turns(small: Settings) -> None:
    _, examples, _ = halves(small)
    some = small.override({"training.text_refresh_items": 3, "training.text_learning_rate": 0.01})
    learner = learner_of(some)
    dormant = [f"a hat of {number} feathers" for number in range(8)]
    learner.add_texts(dormant)
    stale = learner.text_NT.clone()
    turned: set[int] = set()
    for number in range(7):
        learner.learn(examples)
        fresh = learner.cache.vectors(learner.texts)
        is_fresh = (learner.text_NT - fresh).abs().amax(1) < 1e-6
        assert bool(is_fresh[:12].all()), "items with a gradient"
        moved = (learner.text_NT[12:] != stale[12:]).any(1)
        assert int(moved.sum()) <= 3, f"round {number}"
        turned |= set(moved.nonzero()[:, 0].tolist())
        stale = learner.text_NT.clone()
    assert turned == set(range(8)), "everything had its turn"


def test_full_tuning_takes_every_gradient_and_the_others_the_largest(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, examples, _ = halves(small)
    taken: dict[str, int] = {}
    for method in ("lora", "full"):
        learner = learner_of(small.override({"text.tuning": method, "training.text_items_per_step": 4}))
        whole = learner.backward_text

        def backward_text(rows: Any, *rest: Any, method: str = method, whole: Any = whole) -> None:
            taken[method] = len(rows)
            whole(rows, *rest)

        monkeypatch.setattr(learner, "backward_text", backward_text)
        learner.learn(examples)
    assert taken == {"lora": 4, "full": 12}


def test_full_tuning_learns_at_no_stale_vector(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, second = halves(small)
    changes = {"text.tuning": "full", "training.text_refresh_items": 0, "training.text_learning_rate": 0.01}
    learner = learner_of(small.override(changes))
    learner.learn(first)
    learner.text_NT.mul_(0.5)
    learner.stale_N[:] = True
    worst: list[float] = []
    step = learner._step

    def watched(batch: Batch, gradient_NT: torch.Tensor) -> object:
        rows = learner.task.text_rows(batch)
        now = learner.cache.vectors([learner.texts[row] for row in rows])
        worst.append(float((learner.text_NT[torch.from_numpy(rows)] - now).abs().max()))
        return step(batch, gradient_NT)

    monkeypatch.setattr(learner, "_step", watched)
    learner.learn(second)
    assert max(worst) < 1e-6
