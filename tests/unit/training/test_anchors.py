"""Frozen windows: kept at growing ages, a handful in all, ranked by hand, whole after a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
from core_bench import learned_examples, small_settings
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.examples import Examples, Labelled
from penstock.training.anchors import Anchor, example_ndcg, spread_out, thinned

AGES = [1, 4, 16, 64]


def anchor(round: int) -> Anchor:
    batch = Labelled(np.array([round]), np.array([0]))
    return Anchor(round, f"2026-01-01T00:00:{round % 60:02}", np.zeros(1, np.int64), batch, np.ones(1))


def test_one_of_about_each_age_is_kept() -> None:
    kept: list[Anchor] = []
    seen: list[set[int]] = []
    for now in range(1, 600):
        ages = sorted(now - one.round for one in kept)
        seen.append({int(np.searchsorted(AGES, age, side="right")) for age in ages})
        assert len(ages) <= len(AGES) + 1
        assert all(age <= 256 for age in ages), "an anchor is let go when the next one is kept"
        kept = thinned([anchor(now), *kept], now, AGES)
        assert [one.round for one in kept] == sorted((one.round for one in kept), reverse=True)
    full = np.mean([{1, 2, 3} <= places for places in seen[100:]])
    assert full > 0.8, "one of each of the young ages is nearly always at hand"
    assert np.mean([4 in places for places in seen[200:]]) > 0.7


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5, unique=True), st.integers(1, 200))
def test_any_ages_keep_a_handful(ages: list[int], rounds: int) -> None:
    kept: list[Anchor] = []
    for now in range(1, rounds + 1):
        kept = thinned([anchor(now), *kept], now, ages)
    assert kept[0].round == rounds, "the newest is always kept"
    assert len(kept) <= len(ages) + min(ages)


def test_ndcg_of_examples_by_hand(tmp_path) -> None:  # type: ignore[no-untyped-def]
    _, examples = learned_examples(small_settings(tmp_path))
    some = examples.take(slice(0, 2))
    gain_RC, score_RC = np.zeros_like(some.gain_RC), np.zeros(some.gain_RC.shape, np.float32)
    gain_RC[0, 1], gain_RC[1, 0] = 1.0, 2.0
    score_RC[0, :3] = 3.0, 2.0, 1.0
    score_RC[1, 0] = 5.0
    found = example_ndcg(replace(some, gain_RC=gain_RC), score_RC)
    assert found == pytest.approx([1 / np.log2(3), 1.0])


def test_anchors_come_back_from_a_checkpoint(tmp_path, tiny_encoder: str) -> None:  # type: ignore[no-untyped-def]
    from penstock.features.state import FeatureSpec
    from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
    from penstock.training.learner import Learner

    settings = small_settings(tmp_path, tiny_encoder)
    state, examples = learned_examples(settings)
    picked = spread_out(len(examples), 5)
    when = "2026-03-02T00:00:00+00:00"
    older, kept = (Anchor(round, when, np.arange(5), examples.take(picked), np.linspace(0, 1, 5)) for round in (2, 3))
    save_checkpoint(Learner(settings, FeatureSpec.of(settings)), state, Carried(anchors=[older, kept]), tmp_path / "c")
    _, _, carried = load_checkpoint(tmp_path / "c", settings)
    assert len(carried.anchors) == 2
    back = carried.anchors[1]
    assert isinstance(back.batch, Examples)
    assert (back.round, back.until) == (kept.round, kept.until)
    np.testing.assert_array_equal(back.then_R, kept.then_R)
    np.testing.assert_array_equal(back.batch.feature_RCF, examples.feature_RCF[picked])


def test_places_are_spread() -> None:
    assert spread_out(100, 5).tolist() == [0, 24, 49, 74, 99]
    assert spread_out(3, 5).tolist() == [0, 1, 2]
    assert spread_out(0, 5).tolist() == []
