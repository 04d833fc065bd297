"""Co-occurrence: the folded matrix and the waiting pairs give one answer, that of the obvious formula."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.features import cooccurrence
from penstock.features.cooccurrence import Cooccurrence

HALF_LIFE_S = 1000.0
ROWS = 5
PAIRS = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1), st.floats(0, 2e4)), min_size=1, max_size=60
)


def slow(pairs: list[tuple[int, int, float]], at_s: float) -> np.ndarray:
    out = np.zeros((ROWS, ROWS))
    for left, right, t in pairs:
        weight = 2.0 ** (-(at_s - t) / HALF_LIFE_S)
        out[left, right] += weight
        out[right, left] += weight
    return out


def add(counts: Cooccurrence, pairs: list[tuple[int, int, float]], rows: int = ROWS) -> None:
    left, right, at_s = zip(*pairs, strict=True)
    counts.add(np.array(left, np.int64), np.array(right, np.int64), np.array(at_s), rows)


def read(counts: Cooccurrence, at_s: float) -> np.ndarray:
    return counts.weighted_rows(np.arange(ROWS), np.eye(ROWS), at_s, ROWS).T


@given(PAIRS)
@settings(deadline=None)
def test_one_at_a_time_in_one_go_and_the_formula_agree(pairs: list[tuple[int, int, float]]) -> None:
    at_s = max(pair[2] for pair in pairs)
    singly, at_once, folded = (Cooccurrence(HALF_LIFE_S) for _ in range(3))
    for pair in sorted(pairs, key=lambda one: one[2]):
        add(singly, [pair])
        add(folded, [pair])
        folded._fold(ROWS)
    add(at_once, pairs)
    expected = slow(pairs, at_s)
    for counts in (singly, at_once, folded):
        np.testing.assert_allclose(read(counts, at_s), expected, rtol=1e-6, atol=1e-12)


def test_a_large_batch_and_a_full_waiting_room_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    pairs = [
        (int(a), int(b), float(t)) for a, b, t in zip(*random.integers(0, ROWS, (2, 2500)), range(2500), strict=True)
    ]
    large, small = Cooccurrence(HALF_LIFE_S), Cooccurrence(HALF_LIFE_S)
    add(small, pairs[:3])
    assert small.waiting_pairs == 6
    add(large, pairs)
    assert not large.waiting
    monkeypatch.setattr(cooccurrence, "FOLD_AT", 100)
    for pair in pairs[3:]:
        add(small, [pair])
    assert small.waiting_pairs <= 100
    np.testing.assert_allclose(read(small, 2500.0), read(large, 2500.0), rtol=1e-9)
    np.testing.assert_allclose(read(large, 2500.0), slow(pairs, 2500.0), rtol=1e-9)


def test_items_that_came_later_have_rows_of_their_own() -> None:
    counts = Cooccurrence(HALF_LIFE_S)
    add(counts, [(0, 1, 0.0)], rows=2)
    counts._fold(2)
    add(counts, [(4, 0, 0.0)])
    assert read(counts, 0.0)[0].tolist() == [0, 1, 0, 0, 1]
    assert read(counts, 0.0)[4].tolist() == [1, 0, 0, 0, 0]
    assert read(counts, 0.0)[3].tolist() == [0] * ROWS


def test_a_long_time_moves_the_origin() -> None:
    counts = Cooccurrence(HALF_LIFE_S)
    pairs = [(0, 1, 0.0), (1, 2, HALF_LIFE_S * 500), (1, 2, HALF_LIFE_S * 501)]
    for pair in pairs:
        add(counts, [pair])
    np.testing.assert_allclose(read(counts, pairs[-1][2]), slow(pairs, pairs[-1][2]), rtol=1e-9, atol=1e-30)


def test_kept_and_restored() -> None:
    counts, other = Cooccurrence(HALF_LIFE_S), Cooccurrence(HALF_LIFE_S)
    other.restore("pairs", counts.arrays("pairs", ROWS))
    assert other.origin_s is None
    add(counts, [(0, 1, 10.0), (2, 3, 20.0)])
    other.restore("pairs", counts.arrays("pairs", ROWS))
    for one in (counts, other):
        add(one, [(0, 4, 30.0)])
    np.testing.assert_array_equal(read(counts, 40.0), read(other, 40.0))


def test_folding_apart_leaves_what_others_read_alone_until_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "NEARLY", 10)
    counts, at_s = Cooccurrence(HALF_LIFE_S), 30.0
    seen = []

    @contextmanager
    def lock() -> Iterator[None]:
        seen.append((read(counts, at_s), len(counts.waiting)))
        yield
        seen.append((read(counts, at_s), len(counts.waiting)))

    add(counts, [(0, 1, 3.0), (1, 2, 9.0), (3, 4, 12.0)], rows=5)
    counts.fold_apart(5, lock())
    assert not seen, "few pairs wait on"
    add(counts, [(0, 1, 20.0), (0, 4, 22.0), (2, 4, 25.0)], rows=5)
    counts.fold_apart(7, lock())
    (before, waited), (after, waits) = seen
    assert (waited, waits) == (5, 0)
    np.testing.assert_allclose(after, before, rtol=1e-12)
    add(counts, [(0, 6, 30.0)], rows=7)
    assert read(counts, at_s)[0, 6] == 1.0
