"""What a user did: order, bounds, strangers, and keeping."""

from penstock.features import history
from penstock.features.history import Histories


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
