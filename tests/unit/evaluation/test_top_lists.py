"""What would be shown: lists through the service's own candidate sources, and their coverage and diversity by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from core_bench import START_S, catalogue, random_events, small_settings

from penstock.evaluation.gate_slices import HEAVY_USERS, NEW_ITEMS, NEW_USERS, RequestKinds
from penstock.evaluation.top_lists import ListMaker
from penstock.features.examples import Asked
from penstock.features.state import CausalState, FeatureSpec

HOUR_S = 3600.0


class Engine:
    """Scores by row: the first items are always best."""

    vector_NE = np.eye(12, 4, dtype=np.float32)

    def user_vector(self, history, length, at_s):  # type: ignore[no-untyped-def]
        return np.ones(4, np.float32)

    def nearest(self, vector_E, count):  # type: ignore[no-untyped-def]
        return np.arange(min(count, 12))

    def scores(self, examples):  # type: ignore[no-untyped-def]
        return -examples.row_RC.astype(np.float32)


def asked(state: CausalState, user: str, hours: float = 50.0, relevant: tuple[str, ...] = ("i1",)) -> Asked:
    request = {"user_id": user, "relevant": list(relevant), "shown": []}
    return Asked(request, START_S + hours * HOUR_S, state.histories.of(user), None)


@pytest.fixture
def state(tmp_path) -> CausalState:  # type: ignore[no-untyped-def]
    found = CausalState(FeatureSpec.of(small_settings(tmp_path)))
    found.add_items(catalogue(12))
    found.observe(random_events(3))
    return found


def test_lists_hold_the_ten_best_of_what_the_sources_find(state: CausalState) -> None:
    maker = ListMaker(state, Engine(), 200)  # type: ignore[arg-type]
    for user in ("u1", "u2", "stranger"):
        maker.ask(asked(state, user))
    assert [row.tolist() for row in maker.rows[:2]] == [list(range(10)), list(range(10))]
    figures = maker.figures(Engine.vector_NE)
    assert (figures.lists, figures.possible) == (3, 12)
    assert figures.shown == len(set(np.concatenate(maker.rows).tolist()))
    assert figures.coverage == figures.shown / 12


def test_diversity_by_hand(state: CausalState) -> None:
    maker = ListMaker(state, Engine(), 200)  # type: ignore[arg-type]
    maker.rows = [np.array([0, 1, 3])]  # categories 0, 1, 0: two of three pairs differ
    assert maker.figures(Engine.vector_NE).diversity == pytest.approx(2 / 3)
    maker.state = SimpleNamespace(categories={"": 0}, category_N=np.zeros(12, np.int64), items=[""] * 12)  # type: ignore[assignment]
    found = maker.figures(Engine.vector_NE)
    assert (found.diversity, found.unlike) == (pytest.approx(1.0), "cosine distance of pairs")
    maker.rows = []
    assert np.isnan(maker.figures(Engine.vector_NE).coverage)


def test_kinds_of_requests_are_judged_by_what_came_before(state: CausalState, tmp_path) -> None:  # type: ignore[no-untyped-def]
    kinds = RequestKinds(state, small_settings(tmp_path, **{"gates.new_item_h": 40.0}).gates)
    state.born_s_N[1], state.born_s_N[2] = START_S, START_S + 49 * HOUR_S
    for user, relevant in (("u1", ("i1",)), ("stranger", ("i2",)), ("u2", ("i1", "unheard of"))):
        kinds.ask(asked(state, user, relevant=relevant))
    masks = kinds.masks()
    assert masks[NEW_USERS].tolist() == [False, True, False]
    assert masks[NEW_ITEMS].tolist() == [False, True, True]
    assert not masks[HEAVY_USERS][1]
    assert masks[HEAVY_USERS][int(np.argmax(kinds.earlier))]
    assert masks["category c1"].tolist() == [True, False, True]
    assert masks["category c2"].tolist() == [False, True, False]
    assert "category c0" not in masks
