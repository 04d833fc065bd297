"""Recall of the candidate sources, on a state made by hand."""

from datetime import timedelta

import numpy as np
from core_bench import START, START_S, catalogue, event, small_settings, table

from penstock.features.examples import Asked
from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.backtest_recall import RecallProbe


class FakeEngine:
    """An index in which the items of the highest rows are the nearest to everybody."""

    def user_vector(self, history, length, at_s):
        return np.zeros(2, np.float32)

    def nearest(self, vector_E, count):
        return np.arange(8)[::-1][:count]


def asked(state: CausalState, user: str, relevant: list[str]) -> Asked:
    at = START + timedelta(hours=5)
    request = {"relevant": relevant, "shown": [], "at": at}
    return Asked(request, START_S + 5 * 3600, state.histories.of(user), None)


def known(tmp_path) -> CausalState:
    state = CausalState(FeatureSpec.of(small_settings(tmp_path)))
    state.add_items(catalogue(8))
    state.observe(table([event(n, n / 10, "u1", f"i{n}") for n in range(3)] + [event(9, 1.0, "u2", "i0")]))
    return state


def test_each_source_and_the_union_by_hand(tmp_path) -> None:
    state = known(tmp_path)
    probe = RecallProbe({7}, 2, repeats=True)
    probe.ask(7, asked(state, "u1", ["i2", "i7"]), state, FakeEngine())  # type: ignore[arg-type]
    found = probe.found["7"]
    assert found["repeats"] == 0.5  # i2 and i1 are the last two that u1 had
    assert found["semantic"] == 0.5  # i7 and i6 are nearest
    assert found["trending"] in (0.0, 0.5)
    assert 0.5 <= found["union"] <= 1.0


def test_what_the_user_had_is_not_allowed_where_repeats_do_not_count(tmp_path) -> None:
    state = known(tmp_path)
    probe = RecallProbe({7}, 8, repeats=False)
    probe.ask(7, asked(state, "u1", ["i2"]), state, FakeEngine())  # type: ignore[arg-type]
    assert set(probe.found["7"].values()) == {0.0}


def test_a_stranger_has_no_repeats_and_others_are_not_sampled(tmp_path) -> None:
    state = known(tmp_path)
    probe = RecallProbe({7}, 8, repeats=True)
    probe.ask(7, asked(state, "new", ["i0", "unknown"]), state, FakeEngine())  # type: ignore[arg-type]
    probe.ask(8, asked(state, "new", ["i0"]), state, FakeEngine())  # type: ignore[arg-type]
    assert list(probe.found) == ["7"]
    assert probe.found["7"]["repeats"] == probe.found["7"]["semantic"] == 0.0
    assert probe.found["7"]["trending"] == 0.5  # an item nobody knows cannot be found
