"""A click after its window's end labels its request now and is counted in the round after, once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from core_bench import START, catalogue, event, small_settings, table

from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.rank_round import RankRound
from penstock.training.checkpoint import Carried


def test_what_followed_after_the_window_is_counted_with_the_next(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    state = CausalState(FeatureSpec.of(settings))
    state.add_items(catalogue(4))
    learner: Any = None  # counting does not ask it
    work = RankRound(settings, learner, state, catalogue(4), None, Carried())
    first = table([event(1, 0.0), event(2, 0.9), event(3, 1.1, user="u2")])
    work.observe(first, START + timedelta(hours=1))
    assert (state.observed_events, state.histories.users()) == (2, ["u1"])
    assert work.carried.uncounted is not None
    assert work.carried.uncounted["event_id"].to_list() == ["e00003"]
    work.observe(table([event(4, 1.05), event(5, 1.2)]), START + timedelta(hours=2))
    assert state.observed_events == 5
    assert len(work.carried.uncounted) == 0
    straight = CausalState(FeatureSpec.of(settings))
    straight.add_items(catalogue(4))
    straight.observe(table([*first.to_dicts(), event(4, 1.05), event(5, 1.2)]).sort("at"))
    assert straight.counted_s == state.counted_s
