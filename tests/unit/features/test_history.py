"""What a user did: order, bounds, strangers, and keeping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.features import history
from penstock.features.history import Histories

Event = tuple[str, int, int, float]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ada", "bob", "eve"]), st.integers(0, 9), st.integers(0, 2), st.integers(0, 9).map(float)
    )
)


def filled(count: int) -> Histories:
    histories = Histories()
    for n in range(count):
        histories.add("ada", n, n % 3, float(n))
    return histories


def test_oldest_first_and_the_last_few() -> None:
    past = filled(5).of("ada")
    assert past.row_L.tolist() == [0, 1, 2, 3, 4]
    assert past.last(2).row_L.tolist() == [3, 4]
    assert past.last(2).kind_L.tolist() == [0, 1]
    assert past.last(99).at_s_L.tolist() == [0, 1, 2, 3, 4]
    assert filled(5).tail("ada", 2) == ([3, 4], [3.0, 4.0])


def test_what_is_added_is_seen_by_whoever_asks_again() -> None:
    histories = filled(2)
    first = histories.of("ada")
    assert histories.of("ada") is first, "one answer asks several times"
    assert len(histories.of("bob")) == 0
    histories.add("bob", 7, 0, 2.0)
    assert histories.of("bob").row_L.tolist() == [7]
    histories.add("ada", 8, 0, 2.0)
    assert histories.of("ada").row_L.tolist() == [0, 1, 8]
    histories.restore(*filled(1).arrays())
    assert histories.of("ada").row_L.tolist() == [0]


def test_a_stranger_has_no_past() -> None:
    assert len(Histories().of("bob")) == 0
    assert Histories().tail("bob", 3) == ([], [])


def test_only_the_newest_are_kept() -> None:
    count = 2 * history.KEPT_PER_USER + 7
    histories = filled(count)
    past = histories.of("ada")
    assert len(past) == history.KEPT_PER_USER
    assert past.row_L[-1] == count - 1
    assert len(histories._past["ada"][0]) <= 2 * history.KEPT_PER_USER


def test_kept_and_restored() -> None:
    histories = filled(4)
    histories.add("bob", 9, 1, 9.5)
    users, arrays = histories.arrays()
    other = Histories()
    other.restore(users, arrays)
    assert other.users() == ["ada", "bob"]
    other.add("bob", 3, 0, 10.0)
    assert other.of("bob").row_L.tolist() == [9, 3]
    assert other.of("ada").at_s_L.tolist() == [0, 1, 2, 3]
    empty = Histories()
    empty.restore(*Histories().arrays())
    assert len(empty) == 0


@given(before=EVENTS, after=EVENTS)
def test_what_was_restored_goes_on_as_if_it_had_never_been_put_away(before: list[Event], after: list[Event]) -> None:
    whole, first = Histories(), Histories()
    for event in before:
        whole.add(*event)
        first.add(*event)
    restored = Histories()
    restored.restore(*first.arrays())
    for event in after:
        whole.add(*event)
        restored.add(*event)
    assert restored.users() == whole.users()
    for user in (*whole.users(), "nobody"):
        assert restored.tail(user, 3) == whole.tail(user, 3)
        for mine, other in zip(vars(restored.of(user)).values(), vars(whole.of(user)).values(), strict=True):
            assert mine.tolist() == other.tolist()
            assert mine.dtype == other.dtype


def test_arrays_that_do_not_fit_are_refused() -> None:
    users, arrays = filled(4).arrays()
    with pytest.raises(ValueError, match="1 users and 4 events, names of 2 users"):
        Histories().restore([*users, "bob"], arrays)
    with pytest.raises(ValueError, match="1 users and 3 events"):
        Histories().restore(users, arrays | {"history.row": arrays["history.row"][1:]})
