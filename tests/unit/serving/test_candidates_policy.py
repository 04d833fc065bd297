from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from serving_fakes import NOW, FakeJournal, FakeScorer, event

from penstock.errors import DataError
from penstock.inference.scorer import Scored, UserContext
from penstock.records import EVENT_COLUMNS
from penstock.serving.candidates import AGAIN, FRESH, POPULAR, REST, TASTE, TOGETHER, find_candidates
from penstock.serving.policy import allowed_items, why


@pytest.fixture
def scorer() -> FakeScorer:
    """Three users took i9 and i12 together, one of them i15 as well; u1 took i9."""
    scorer, journal = FakeScorer("first", items=60), FakeJournal()
    taken = [("a", "i9"), ("a", "i12"), ("b", "i9"), ("b", "i12"), ("c", "i12"), ("c", "i15"), ("u1", "i9")]
    events = [
        event(number, user=user, item=item) | {"at": NOW - timedelta(minutes=30 - number)}
        for number, (user, item) in enumerate(taken)
    ]
    journal.append(events, NOW)
    scorer.observe(journal.read(0, 100).select(list(EVENT_COLUMNS)))
    return scorer


def everything(scorer: FakeScorer) -> np.ndarray:
    return np.ones(len(scorer.state.items), bool)


def test_sources_take_turns_and_name_their_items(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1"), NOW, 8, everything(scorer))
    assert len(found.items) == len(set(found.items)) == 8
    assert found.source["i12"] == TOGETHER
    assert found.source["i9"] == AGAIN
    assert found.source["i15"] == POPULAR
    assert found.source["i0"] in (FRESH, TASTE)


def test_a_stranger_gets_popular_and_fresh_only(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="nobody"), NOW, 6, everything(scorer))
    assert found.items == ["i9", "i0", "i12", "i1", "i15", "i2"]
    assert set(found.source.values()) == {POPULAR, FRESH}


def test_what_is_not_allowed_is_in_no_source(scorer: FakeScorer) -> None:
    allowed = everything(scorer)
    allowed[[9, 12, 0]] = False
    for user in (UserContext(user_id="u1"), UserContext()):
        found = find_candidates(scorer, user, NOW, 60, allowed)
        assert not {"i9", "i12", "i0"} & set(found.items)
    assert find_candidates(scorer, UserContext(user_id="u1"), NOW, 60, ~everything(scorer)).items == []


def test_a_small_catalogue_is_ranked_whole_for_a_known_user(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1"), NOW, 200, everything(scorer))
    assert len(found.items) == 60


def test_a_query_looks_at_every_item(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1", query="tent"), NOW, 5, everything(scorer))
    assert len(found.items) == 60
    assert list(found.source.values()).count(REST) == 55


def test_filters_combine(scorer: FakeScorer) -> None:
    allowed = allowed_items(scorer, UserContext(user_id="u1"), NOW, ["outdoor"], ["i0", "gone"], True)
    names = [scorer.state.items[row] for row in np.flatnonzero(allowed)]
    assert names[:4] == ["i3", "i6", "i12", "i15"], "outdoor is every third; i0 excluded, i9 seen"
    with pytest.raises(DataError, match="categories are books, kitchen, outdoor"):
        allowed_items(scorer, UserContext(), NOW, ["garden"], [], False)


def test_an_item_of_unknown_age_is_allowed_one_of_tomorrow_is_not(scorer: FakeScorer) -> None:
    scorer.state.born_s_N[:2] = [np.nan, (NOW + timedelta(days=1)).timestamp()]
    allowed = allowed_items(scorer, UserContext(), NOW, [], [], False)
    assert allowed[0]
    assert not allowed[1]


def test_reasons_start_with_the_source_and_do_not_repeat_it() -> None:
    scored = Scored("i1", 1.0, {"cooccurrence_cosine": 3.0, "category_affinity": 1.0, "age": 2.0, "rate_1h": -1.0})
    assert why(scored, TOGETHER, newcomer=False) == [
        "often taken together with what you had recently",
        "from a category you like",
    ]
    assert why(Scored("i1", 1.0, {}), REST, newcomer=False) == ["the model's best guess among all items"]
    assert why(Scored("i1", 1.0, {"category_popularity_24h": 1.0}), FRESH, newcomer=True) == [
        "among the newest",
        "its category is in demand",
    ]


def test_the_journal_of_the_fakes_reads_like_the_real_one() -> None:
    journal = FakeJournal()
    journal.append([event(1) | {"at": NOW}, event(1) | {"at": NOW}, event(2, kind="stare")], NOW)
    assert journal.read(0, 10).select("seq", "event_id").rows() == [(1, "e1")]
    assert journal.read(1, 10).schema == pl.Schema({"seq": pl.Int64(), **EVENT_COLUMNS})
