"""The category mix of the console: by hand, and the same limit as validation's."""

from pathlib import Path

import numpy as np
import pytest
from serving_fakes import PARAMS

from penstock.data.drift import ItemSpace, drift_rules, remember
from penstock.data.state import State, open_state
from penstock.serving.console_drift import OTHERS, category_mix
from penstock.settings import load_settings

SETTINGS = load_settings(PARAMS, {}).validation
CATEGORY_OF = {f"i{number}": f"c{number % 7}" for number in range(21)}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(f"sqlite:///{tmp_path}/state.db")


def test_shares_and_distances_by_hand(state: State) -> None:
    remember(state, "s1", {"i0": 3, "i1": 1, "gone": 50})
    remember(state, "s3", {"i7": 1, "i8": 1})
    mix = category_mix(state, ["s1", "s2", "s3"], CATEGORY_OF, SETTINGS)
    assert mix.shares == {"c0": [0.75, None, 0.5], "c1": [0.25, None, 0.5]}
    assert mix.distance == [None, None, 0.25]
    assert mix.limit is None, "too few snapshots before it"


def test_many_categories_are_summed_up(state: State) -> None:
    remember(state, "s1", {f"i{number}": 10 - number for number in range(7)})
    mix = category_mix(state, ["s1"], CATEGORY_OF, SETTINGS)
    assert list(mix.shares) == ["c0", "c1", "c2", "c3", "c4", OTHERS]
    assert mix.shares[OTHERS] == [pytest.approx(9 / 49)]


def test_nothing_remembered_is_nothing_shown(state: State) -> None:
    mix = category_mix(state, ["s1"], CATEGORY_OF, SETTINGS)
    assert (mix.shares, mix.distance, mix.limit) == ({}, [None], None)


def test_distance_and_limit_are_those_of_validation(state: State) -> None:
    random = np.random.default_rng(3)
    windows = [
        {item: int(count) for item, count in zip(CATEGORY_OF, random.integers(1, 9, len(CATEGORY_OF)), strict=True)}
        for _ in range(SETTINGS.drift_min_history + 2)
    ]
    ids = [f"s{number}" for number in range(len(windows))]
    for name, acts in zip(ids, windows, strict=True):
        remember(state, name, acts)
    mix = category_mix(state, ids, CATEGORY_OF, SETTINGS)
    space = ItemSpace(list(CATEGORY_OF), list(CATEGORY_OF.values()), np.ones(len(CATEGORY_OF)), None)
    rule = drift_rules(windows[-1], windows[:-1], space, SETTINGS)[0][0]
    assert (mix.distance[-1], mix.limit) == (pytest.approx(rule.observed), pytest.approx(rule.high))
