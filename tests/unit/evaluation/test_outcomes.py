"""Ranks of wanted items against the rankings they come from."""

import numpy as np
import pytest

from penstock.errors import GateError
from penstock.evaluation.comparison import measure
from penstock.evaluation.outcomes import Wanted, gain_of_rank

ROWS = [(0, "a", 0, 1.0, ["x", "y"]), (1, "b", 0, 2.0, ["z"]), (2, "a", 1, 3.0, ["x"])]


def test_ranks_give_the_same_figures_as_the_lists() -> None:
    wanted = Wanted.of(ROWS)
    rankings = [["q", "x", "y"], ["x"], ["x", "z"]]
    found = wanted.metrics(np.array([2, 3, 0, 1]))
    plain = measure([row[0] for row in ROWS], [row[1] for row in ROWS], rankings, [row[4] for row in ROWS])
    for name in ("request_R", "user_R", "ndcg_R", "hr_R", "mrr_R", "recall_R"):
        assert getattr(found, name).tolist() == getattr(plain, name).tolist()


def test_an_item_slice_counts_its_items_alone_and_leaves_the_others_out() -> None:
    wanted = Wanted.of(ROWS)
    found = wanted.metrics(np.array([2, 3, 0, 1]), np.array([False, True, True, False]))
    assert found.request_R.tolist() == [0, 1]
    assert found.ndcg_R == pytest.approx([0.5, 0.0])
    assert found.recall_R.tolist() == [1.0, 0.0]


def test_ranks_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(GateError, match="3 ranks for 4 wanted items"):
        Wanted.of(ROWS).metrics(np.array([1, 2, 3]))
    with pytest.raises(GateError, match="rank every request"):
        Wanted.of(ROWS).metrics(np.array([1, 2, 3, -1]))


def test_the_gain_of_a_rank() -> None:
    assert gain_of_rank(np.array([0, 1, 3, 10, 11])) == pytest.approx([0.0, 1.0, 0.5, 1 / np.log2(11), 0.0])
