"""Decayed counts against the sum they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.decay import DecayedCounts

HALF_LIVES_S = np.array([60.0, 3600.0, 86400.0])
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 5.0), st.floats(0.0, 4e5)), min_size=1, max_size=90)


def slow(events: list[tuple[int, float, float]], at_s: float, rows: int = 4) -> np.ndarray:
    """w · 2^(-(at - t) / half-life), one event at a time."""
    out = np.zeros((rows, len(HALF_LIVES_S)))
    for row, weight, t in events:
        out[row] += weight * 2.0 ** (-(at_s - t) / HALF_LIVES_S)
    return out


def counts_of(events: list[tuple[int, float, float]], size: int) -> DecayedCounts:
    counts = DecayedCounts(HALF_LIVES_S, 4)
    for start in range(0, len(events), size):
        row, weight, at_s = zip(*events[start : start + size], strict=True)
        counts.add(np.array(row, np.int64), np.array(weight), np.array(at_s))
    return counts


@given(EVENTS, st.integers(1, 90), st.floats(0.0, 1e5))
def test_the_sum_of_every_event_decayed_by_its_age(
    events: list[tuple[int, float, float]], size: int, after: float
) -> None:
    events = sorted(events, key=lambda one: one[2])
    at_s = events[-1][2] + after
    counts, expected = counts_of(events, size), slow(events, at_s)
    np.testing.assert_allclose(counts.at(at_s), expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(counts.at(at_s, np.array([2, 0])), expected[[2, 0]], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(counts.total(at_s), expected.sum(0), rtol=1e-6, atol=1e-12)


@given(EVENTS)
def test_order_does_not_matter_and_late_events_weigh_by_their_own_time(events: list[tuple[int, float, float]]) -> None:
    at_s = max(one[2] for one in events)
    forward, backward = counts_of(events, 7), counts_of(events[::-1], 1)
    np.testing.assert_allclose(forward.at(at_s), backward.at(at_s), rtol=1e-6, atol=1e-9)


def test_one_half_life_halves() -> None:
    counts = DecayedCounts(np.array([10.0]), 1)
    counts.add(np.array([0]), np.array([8.0]), np.array([100.0]))
    assert [counts.at(t)[0, 0] for t in (100.0, 110.0, 130.0)] == [8.0, 4.0, 1.0]


def test_years_of_a_short_half_life_neither_overflow_nor_lose_the_newest() -> None:
    counts = DecayedCounts(np.array([60.0]), 2)
    for day in range(800):
        counts.add(np.array([day % 2]), np.array([1.0]), np.array([day * 86400.0]))
    now = counts.at(799 * 86400.0)[:, 0]
    assert np.isfinite(now).all()
    assert now[1] == pytest.approx(1.0)
    assert now[0] == pytest.approx(0.0, abs=1e-100)


def test_nothing_counted_is_zero_and_rows_grow() -> None:
    counts = DecayedCounts(HALF_LIVES_S)
    counts.grow(3)
    counts.add(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    assert counts.at(5.0).shape == (3, 3)
    assert not counts.at(5.0).any()
    assert not counts.total(5.0).any()


def test_kept_and_restored_goes_on_as_before() -> None:
    counts = counts_of([(0, 1.0, 50.0), (3, 2.0, 500.0)], 1)
    other = DecayedCounts(HALF_LIVES_S)
    other.restore("x", counts.arrays("x"))
    for one in (counts, other):
        one.add(np.array([1]), np.array([1.0]), np.array([9e5]))
    np.testing.assert_array_equal(counts.at(1e6), other.at(1e6))


def test_a_sum_that_was_read_moves_with_what_comes_after() -> None:
    counts, row_1, one_1 = DecayedCounts(HALF_LIVES_S, 4), np.array([1]), np.ones(1)
    assert counts.at(5.0).tolist() == np.zeros((4, 3)).tolist()
    counts.add(row_1, one_1, np.array([0.0]))
    before = counts.at(100.0)
    counts.add(row_1, one_1, np.array([5e4]))
    assert counts.at(100.0)[1, 0] > before[1, 0]
    np.testing.assert_allclose(counts.at(5e4), slow([(1, 1.0, 0.0), (1, 1.0, 5e4)], 5e4))
    again = DecayedCounts(HALF_LIVES_S, 4)
    again.at(5e4)
    again.restore("n", counts.arrays("n"))
    np.testing.assert_array_equal(again.at(5e4), counts.at(5e4))
