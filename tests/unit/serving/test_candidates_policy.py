from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from serving_fakes import NOW, FakeJournal, FakeScorer, event

from penstock.errors import DataError
from penstock.inference.scorer import UserContext
from penstock.records import EVENT_COLUMNS
from penstock.serving.api import Filters
from penstock.serving.candidates import FRESH, POPULAR, REST, TASTE, TOGETHER, Allowed, Candidates, find_candidates
from penstock.serving.policy import allowed_items, why
from penstock.serving.served import Served


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


def everything(scorer: FakeScorer) -> Allowed:
    return Allowed(scorer.state, NOW.timestamp())


def served(scorer: FakeScorer) -> Served:
    return Served("1", scorer.digest, scorer, NOW)


def names(scorer: FakeScorer, found: Candidates) -> list[str]:
    return [scorer.state.items[row] for row in found.row_C]


def test_every_source_has_a_place_and_names_its_items(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1"), NOW, 40, everything(scorer))
    source = dict(zip(names(scorer, found), found.source_C, strict=True))
    assert len(source) == len(found) == 40
    assert source["i12"] == TOGETHER
    assert source["i15"] == POPULAR
    assert {FRESH, TASTE} <= set(source.values())
    assert found.user_E is not None


def test_places_go_where_most_was_found_before(scorer: FakeScorer) -> None:
    user, rows = UserContext(user_id="u1"), everything(scorer)
    for _ in range(200):
        scorer.state.yields.observe({TASTE: np.arange(40), FRESH: np.arange(40)}, range(40))
        scorer.state.yields.observe({FRESH: np.arange(40)}, [])
    found = find_candidates(scorer, user, NOW, 20, rows)
    assert found.source_C.count(TASTE) > found.source_C.count(FRESH)
    assert "i0" in names(scorer, found), "the newest keeps its place"
    for _ in range(2000):
        scorer.state.yields.observe({TASTE: np.arange(40)}, [])
    later = find_candidates(scorer, user, NOW, 20, rows)
    assert later.source_C.count(FRESH) > later.source_C.count(TASTE)


def test_a_stranger_gets_popular_and_fresh_only(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="nobody"), NOW, 6, everything(scorer))
    assert {"i9", "i12", "i15", "i0"} <= set(names(scorer, found))
    assert set(found.source_C) == {POPULAR, FRESH}
    assert found.user_E is None


def test_what_is_not_allowed_is_in_no_source(scorer: FakeScorer) -> None:
    count = len(scorer.state.items)
    mask_N = np.ones(count, bool)
    mask_N[[9, 12, 0]] = False
    for allowed in (
        Allowed(scorer.state, NOW.timestamp(), mask_N=mask_N),
        Allowed(scorer.state, NOW.timestamp(), np.array([9, 12, 0])),
    ):
        for user in (UserContext(user_id="u1"), UserContext()):
            found = find_candidates(scorer, user, NOW, 60, allowed)
            assert not {"i9", "i12", "i0"} & set(names(scorer, found))
            assert len(found) == count - 3
    nothing = Allowed(scorer.state, NOW.timestamp(), mask_N=np.zeros(count, bool))
    assert not len(find_candidates(scorer, UserContext(user_id="u1"), NOW, 60, nothing))


def test_a_small_catalogue_is_ranked_whole_for_a_known_user(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1"), NOW, 200, everything(scorer))
    assert len(found) == len(set(found.row_C.tolist())) == 60


def test_a_query_looks_at_every_item(scorer: FakeScorer) -> None:
    found = find_candidates(scorer, UserContext(user_id="u1", query="tent"), NOW, 5, everything(scorer))
    assert len(found) == 60
    assert found.source_C.count(REST) == 55


def test_filters_combine(scorer: FakeScorer) -> None:
    wanted = Filters(category=["outdoor"], exclude=["i0", "gone"], exclude_seen=True)
    allowed = allowed_items(served(scorer), UserContext(user_id="u1"), NOW, wanted)
    found = [scorer.state.items[row] for row in allowed.rows()]
    assert found[:4] == ["i3", "i6", "i12", "i15"], "outdoor is every third; i0 excluded, i9 seen"
    with pytest.raises(DataError, match="categories are books, kitchen, outdoor"):
        allowed_items(served(scorer), UserContext(), NOW, Filters(category=["garden"]))


def test_an_item_of_unknown_age_is_allowed_one_of_tomorrow_is_not(scorer: FakeScorer) -> None:
    scorer.state.born_s_N[:2] = [np.nan, (NOW + timedelta(days=1)).timestamp()]
    allowed = allowed_items(served(scorer), UserContext(), NOW, Filters())
    assert allowed.of(np.array([0, 1])).tolist() == [True, False]


def test_reasons_start_with_the_source_and_do_not_repeat_it() -> None:
    parts = {"cooccurrence_cosine": 3.0, "age": 2.0, "category_affinity": 1.0}
    assert why(parts, TOGETHER, newcomer=False) == [
        "often taken together with what you had recently",
        "from a category you like",
    ]
    assert why({}, REST, newcomer=False) == ["the model's best guess among all items"]
    assert why({"category_popularity_24h": 1.0}, FRESH, newcomer=True) == [
        "among the newest",
        "its category is in demand",
    ]


def test_the_journal_of_the_fakes_reads_like_the_real_one() -> None:
    journal = FakeJournal()
    journal.append([event(1) | {"at": NOW}, event(1) | {"at": NOW}, event(2, kind="stare")], NOW)
    assert journal.read(0, 10).select("seq", "event_id").rows() == [(1, "e1")]
    assert journal.read(1, 10).schema == pl.Schema({"seq": pl.Int64(), **EVENT_COLUMNS})
