"""The pool against sorting everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.pool import Pool, best_rows


@given(st.lists(st.integers(-3, 3).map(float), max_size=30), st.integers(1, 12))
def test_the_best_rows_are_those_of_a_stable_sort(values: list[float], count: int) -> None:
    score_N = np.array([-np.inf if value == -3 else value for value in values])
    whole = [row for row in np.argsort(-score_N, kind="stable").tolist() if score_N[row] > -np.inf]
    assert best_rows(score_N, count).tolist() == whole[:count]


class Counted:
    """A table of scores that says how often all of it was read."""

    def __init__(self, rows: int) -> None:
        self.score_N, self.whole = np.random.default_rng(3).random(rows), 0

    def __call__(self, at_s: float, row_P: np.ndarray | None) -> np.ndarray:
        self.whole += row_P is None
        return self.score_N if row_P is None else self.score_N[row_P]


def test_a_touched_row_comes_in_at_once_without_looking_at_all_rows() -> None:
    scores = Counted(1000)
    pool = Pool(scores, size=40)
    for at in range(30):
        row = int(np.argmin(scores.score_N))
        scores.score_N[row] = 2.0 + at
        pool.touch(np.array([row]))
        assert pool.top(100.0 + at, 10).tolist() == np.argsort(-scores.score_N, kind="stable")[:10].tolist()
    assert scores.whole == 1


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_whatever_is_touched_the_list_is_that_of_all_rows(seed: int, batches: list[int]) -> None:
    random, scores = np.random.default_rng(seed), Counted(200)
    pool = Pool(scores, size=40)
    pool.top(100.0, 10)
    for at, count in enumerate(batches):
        rows = random.integers(0, 200, count)  # inside the pool and outside, some twice
        scores.score_N[rows] = 1.0 + at + random.random(count)
        pool.touch(rows)
        assert pool.top(100.0 + at, 10).tolist() == np.argsort(-scores.score_N, kind="stable")[:10].tolist()
    assert scores.whole == 1


def test_what_time_changed_is_seen_after_a_minute_and_an_earlier_moment_at_once() -> None:
    scores = Counted(1000)
    pool = Pool(scores, size=40)
    pool.top(100.0, 10)
    scores.score_N[:] = scores.score_N[::-1].copy()
    expected = np.argsort(-scores.score_N, kind="stable")[:10].tolist()
    assert pool.top(161.0, 10).tolist() == expected
    scores.score_N[:] = scores.score_N[::-1].copy()
    assert pool.top(50.0, 10).tolist() != expected


def test_a_long_list_is_read_from_all_rows() -> None:
    scores = Counted(1000)
    assert len(Pool(scores, size=40).top(1.0, 500)) == 500


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(500, 5000), st.booleans())
def test_the_best_of_many_are_the_best_of_all(seed: int, count: int, rows: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    score_N = random.integers(0, 30, rows).astype(np.float64) if coarse else random.standard_normal(rows)
    score_N[random.random(rows) < random.random()] = -np.inf
    best = np.argsort(-score_N, kind="stable")[:count]
    assert best_rows(score_N, count).tolist() == best[score_N[best] > -np.inf].tolist()
