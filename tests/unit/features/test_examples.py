"""Examples: candidates, positions, offsets of sampled negatives, joining."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from core_bench import START, START_S, catalogue, event, learned_examples, small_settings, table

from penstock.features.examples import Examples, Labelled, Sampler, build_examples, past_arrays
from penstock.features.history import History
from penstock.features.state import CausalState, FeatureSpec
from penstock.records import REQUEST_COLUMNS
from penstock.settings import Settings


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


@pytest.fixture
def state(small: Settings) -> CausalState:
    state = CausalState(FeatureSpec.of(small))
    state.add_items(catalogue(10))
    return state


def request(**more: Any) -> pl.DataFrame:
    row = {
        "request_id": "r", "user_id": "u", "at": START, "query": None, "shown": ["i3", "gone", "i1"],
        "relevant": ["i1"], "gain": [3.0], "position": [0, 1, 2],
    } | more  # fmt: skip
    return pl.DataFrame([row], schema=REQUEST_COLUMNS)


def built(state: CausalState, requests: pl.DataFrame) -> Examples:
    return build_examples(state, table([]), requests, "event", Sampler(4, 0.5, 0))


def test_shown_items_keep_their_own_positions_where_one_of_them_is_unknown(state: CausalState) -> None:
    one = built(state, request())
    assert one.row_RC.tolist() == [[3, 1]]
    assert one.position_RC.tolist() == [[0, 2]]
    assert one.gain_RC.tolist() == [[0.0, 3.0]]
    assert one.offset_RC.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("position", [[None, None, None], []])
def test_a_log_without_positions(state: CausalState, position: list[Any]) -> None:
    assert built(state, request(position=position)).position_RC.tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    "more",
    [{"relevant": [], "gain": []}, {"relevant": ["gone"], "gain": [1.0]}, {"relevant": ["i9"], "gain": [1.0]}],
)
def test_a_request_that_led_to_nothing_known_teaches_nothing(state: CausalState, more: dict[str, Any]) -> None:
    assert len(built(state, request(**more))) == 0


def test_requests_out_of_order_are_refused(state: CausalState) -> None:
    later = request().with_columns(pl.col("at") + pl.duration(hours=1))
    with pytest.raises(ValueError, match="time order"):
        built(state, pl.concat([later, request()]))


def test_only_positives_get_distinct_negatives_that_are_none_of_them(state: CausalState) -> None:
    one = built(state, request(shown=[], position=[], relevant=["i1", "i2"], gain=[1.0, 1.0]))
    rows = one.row_RC[0][one.mask_RC[0]].tolist()
    assert rows[:2] == [1, 2]
    assert len(set(rows)) == len(rows)
    assert (one.offset_RC[0, 2 : len(rows)] > 0).all()
    assert not one.offset_RC[0, :2].any()


@pytest.mark.parametrize("popular_share", [0.0, 0.5, 1.0])
def test_an_offset_is_minus_the_log_of_the_chance_to_be_drawn(state: CausalState, popular_share: float) -> None:
    clicks = [event(n, 1.0, f"u{n}", f"i{n % 4}") for n in range(30)]
    state.observe(table(clicks))
    sampler = Sampler(6, popular_share, 3)
    sampler.refresh(state, START_S + 7200)
    draws = 4000
    times, stated = np.zeros(10), np.full(10, np.nan)
    for _ in range(draws):
        row, offset = sampler.draw(set())
        times[row] += 1
        stated[row] = np.exp(-offset)
    seen = times > 40
    assert seen.sum() == (4 if popular_share == 1.0 else 10)
    error = np.sqrt(stated[seen] * (1 - stated[seen]) / draws)
    assert (np.abs(times[seen] / draws - stated[seen]) < 4.5 * error + 1e-3).all()


def test_the_past_is_padded_in_front() -> None:
    past = History(np.array([4, 5]), np.array([1, 2]), np.array([0.0, 3600.0]))
    row, kind, age, mask = past_arrays(past, 4, 7200.0)
    assert row.tolist() == [0, 0, 4, 5]
    assert kind.tolist() == [0, 0, 1, 2]
    assert mask.tolist() == [False, False, True, True]
    np.testing.assert_allclose(age, [0, 0, np.log(3), np.log(2)], rtol=1e-6)


def test_joining_pads_to_the_widest_and_taking_gives_back(small: Settings) -> None:
    _, examples = learned_examples(small)
    narrow = Examples(*(getattr(examples, name)[:3] for name in examples.__dataclass_fields__))
    joined = Examples.join([narrow, examples.widened(examples.row_RC.shape[1] + 4)])
    assert len(joined) == 3 + len(examples)
    assert not joined.mask_RC[:3, -4:].any()
    assert (joined.position_RC[:, -4:] == -1).all()
    np.testing.assert_array_equal(joined.take(slice(0, 3)).feature_RCF[:, :-4], narrow.feature_RCF)
    texts = Labelled.join([Labelled(np.array([1]), np.array([0])), Labelled(np.array([2]), np.array([1]))])
    assert texts.take(slice(1, 2)).text_R.tolist() == [2]


@pytest.mark.parametrize("repeats", [True, False])
def test_an_item_the_user_had_is_a_negative_only_where_repeats_count(small: Settings, repeats: bool) -> None:
    state = CausalState(FeatureSpec.of(small.override({"data.repeats": repeats})))
    state.add_items(catalogue(10))
    for row in (5, 6):
        state.histories.add("u", row, 1, START.timestamp() - 60)
    one = build_examples(state, table([]), request(shown=[], position=[]), "event", Sampler(200, 0.5, 0))
    negatives = set(one.row_RC[0][one.mask_RC[0]].tolist()) - {1}
    assert ({5, 6} <= negatives) is repeats
    assert ({5, 6} & negatives == set()) is not repeats
