"""Places, sums and last events of candidates, against the slow way; a table that is written over again and again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.places import PlaceTable

ITEMS = 100


@pytest.mark.parametrize("candidates", [0, 1, 7, 40, ITEMS])
def test_sums_and_last_events_equal_the_slow_way(candidates: int) -> None:
    random, table = np.random.default_rng(candidates), PlaceTable()
    for _ in range(3):
        row_C = random.permutation(ITEMS)[:candidates]
        row_P, value_P2 = random.integers(ITEMS, size=300), random.random((300, 2))
        places = table.of(row_C, ITEMS)
        place_P, known_P = places.known(row_P)
        assert known_P.tolist() == [number for number, row in enumerate(row_P) if row in row_C]
        assert row_C[place_P].tolist() == row_P[known_P].tolist()
        sum_C2, last_C = places.added(place_P, value_P2[known_P]), places.last(place_P)
        for place, row in enumerate(row_C):
            np.testing.assert_allclose(sum_C2[place], value_P2[row_P == row].sum(0))
            same_P = np.flatnonzero(row_P == row)
            assert (known_P[last_C[place]] if last_C[place] >= 0 else -1) == (same_P[-1] if len(same_P) else -1)
        assert sum_C2.shape == (candidates, 2)


def test_nothing_to_sum_is_zero() -> None:
    places = PlaceTable().of(np.array([3, 1]), ITEMS)
    place_P, _ = places.known(np.zeros(0, np.int64))
    assert places.added(place_P, np.zeros((0, 1))).tolist() == [[0.0], [0.0]]
    assert places.added(place_P, np.zeros((0, 1))).dtype == np.float64
    assert places.last(place_P).tolist() == [-1, -1]


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
