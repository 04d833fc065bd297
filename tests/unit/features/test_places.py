"""Sums and maxima over candidates, against the slow way, for few candidates and for many."""

import numpy as np
import pytest

from penstock.features.places import Places

ITEMS = 100


@pytest.mark.parametrize("candidates", [0, 1, 7, 40, ITEMS])
def test_sums_and_largest_equal_the_slow_way(candidates: int) -> None:
    random = np.random.default_rng(candidates)
    row_C = random.permutation(ITEMS)[:candidates]
    row_P, value_P2 = random.integers(ITEMS, size=300), random.random((300, 2))
    places = Places(row_C, ITEMS)
    for place, row in enumerate(row_C):
        same_P = row_P == row
        np.testing.assert_allclose(places.sums(row_P, value_P2)[place], value_P2[same_P].sum(0))
        largest_2 = value_P2[same_P].max(0) if same_P.any() else np.zeros(2)
        np.testing.assert_array_equal(places.largest(row_P, value_P2)[place], largest_2)
    assert places.sums(row_P, value_P2).shape == (candidates, 2)


def test_nothing_to_sum_is_zero() -> None:
    nothing = np.zeros(0, np.int64)
    assert Places(np.array([3, 1]), ITEMS).sums(nothing, np.zeros((0, 1))).tolist() == [[0.0], [0.0]]
