"""Places and sums of candidates, against the slow way; a table that is written over again and again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.places import PlaceTable, added

ITEMS = 100


@pytest.mark.parametrize("candidates", [0, 1, 7, 40, ITEMS])
def test_sums_equal_the_slow_way(candidates: int) -> None:
    random, table = np.random.default_rng(candidates), PlaceTable()
    for _ in range(3):
        row_C = random.permutation(ITEMS)[:candidates]
        row_P, value_2P = random.integers(ITEMS, size=300), random.random((2, 300))
        places = table.of(row_C, ITEMS)
        place_P, known_P = places.known(row_P)
        assert known_P.tolist() == [number for number, row in enumerate(row_P) if row in row_C]
        assert row_C[place_P].tolist() == row_P[known_P].tolist()
        sum_2C = added(place_P, value_2P[:, known_P], places.count)
        for place, row in enumerate(row_C):
            np.testing.assert_allclose(sum_2C[:, place], value_2P[:, row_P == row].sum(1))
        assert sum_2C.shape == (2, candidates)


def test_nothing_to_sum_is_zero() -> None:
    places = PlaceTable().of(np.array([3, 1]), ITEMS)
    place_P, _ = places.known(np.zeros(0, np.int64))
    assert added(place_P, np.zeros((1, 0)), places.count).tolist() == [[0.0, 0.0]]
    assert added(place_P, np.zeros((1, 0)), places.count).dtype == np.float64


@given(st.lists(st.integers(0, 9), max_size=40), st.lists(st.integers(0, 9), max_size=40))
def test_equal_rows_have_one_representative(before: list[int], rows: list[int]) -> None:
    table, row_P = PlaceTable(), np.array(rows, np.int64)
    table.representatives(np.array(before, np.int64), 10)
    one_P = table.representatives(row_P, 10)
    assert row_P[one_P].tolist() == rows
    assert len(set(one_P.tolist())) == len(set(rows))


def test_a_table_grows_with_the_catalogue() -> None:
    table = PlaceTable()
    table.of(np.array([4, 2]), 5)
    places = table.of(np.array([7]), 8)
    assert places.known(np.array([4, 7, 2]))[1].tolist() == [1]
