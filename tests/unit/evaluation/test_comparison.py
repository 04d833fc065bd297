"""The comparison of methods over a stream, by hand and in its edge cases."""

import numpy as np
import pytest

from penstock.errors import GateError
from penstock.evaluation.comparison import (
    Bootstrap,
    RequestMetrics,
    curve,
    difference,
    from_ranked,
    measure,
    overall,
    summarise,
)
from penstock.evaluation.prequential import RankedRequests

BOOTSTRAP = Bootstrap(resamples=200, seed=7, confidence=0.95)


def metrics(ndcg: list[float], user: list[str] | None = None) -> RequestMetrics:
    value_R = np.array(ndcg)
    user_R = np.array(user or [f"u{row}" for row in range(len(ndcg))])
    return RequestMetrics(np.arange(len(ndcg)), user_R, value_R, value_R, value_R, value_R)


def test_measure_by_hand() -> None:
    found = measure([0, 1], ["a", "b"], [["x", "y"], ["x"]], [["y"], ["z"]])
    assert found.ndcg_R == pytest.approx([1 / np.log2(3), 0.0])
    assert found.hr_R.tolist() == [1.0, 0.0]
    assert found.mrr_R.tolist() == [0.5, 0.0]
    assert found.recall_R.tolist() == [1.0, 0.0]


def test_items_beyond_the_hundredth_are_not_looked_at() -> None:
    found = measure([0], ["a"], [list(range(200))], [[150]])
    assert found.recall_R.tolist() == [0.0]


@pytest.mark.parametrize(
    ("ranked", "relevant", "message"),
    [
        ([["x", "x"]], [["y"]], "lists an item twice"),
        ([["x"]], [["y", "y"]], "lists an item twice"),
        ([["x"]], [[]], "without a relevant item"),
        ([], [["y"]], "1 requests, 1 users, 0 rankings, 1 truths"),
    ],
)
def test_what_cannot_be_scored_is_an_error(ranked, relevant, message: str) -> None:
    with pytest.raises(GateError, match=message):
        measure([0], ["a"], ranked, relevant)


def test_a_curve_has_a_row_for_each_window_with_requests() -> None:
    rows = curve(metrics([0.0, 1.0, 0.5]), np.array([0, 0, 2]), ["t0", "t1", "t2"])
    assert [(row["window"], row["at"], row["ndcg"], row["requests"]) for row in rows] == [
        (0, "t0", 0.5, 2),
        (2, "t2", 0.5, 1),
    ]


def test_overall_of_nothing_is_none_and_of_one_user_has_no_interval() -> None:
    assert overall(metrics([]), BOOTSTRAP)["ndcg@10"] is None
    alone = overall(metrics([0.2, 0.4], user=["a", "a"]), BOOTSTRAP)
    assert alone["ndcg@10"] == pytest.approx(0.3)
    assert alone["ndcg@10_ci95"] is None


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(50) * 0.5
    gap = difference(metrics((easy + 0.1).tolist()), metrics(easy.tolist()), BOOTSTRAP)
    assert gap is not None
    assert [gap["ndcg@10"], gap["low"], gap["high"]] == pytest.approx([0.1, 0.1, 0.1])
    assert gap["relative"] == pytest.approx(0.1 / easy.mean())


def test_difference_of_nothing_of_one_user_and_of_other_requests() -> None:
    assert difference(metrics([]), metrics([]), BOOTSTRAP) is None
    alone = difference(metrics([0.5], ["a"]), metrics([0.0], ["a"]), BOOTSTRAP)
    assert alone is not None
    assert (alone["low"], alone["high"], alone["relative"]) == (None, None, None)
    with pytest.raises(GateError, match="not the same"):
        difference(metrics([0.5], ["a"]), metrics([0.5], ["b"]), BOOTSTRAP)


def test_summary_compares_with_the_stale_model_and_the_best_baseline() -> None:
    methods = {
        "fresh": metrics([0.6, 0.4]),
        "never": metrics([0.5, 0.3]),
        "a": metrics([0.1, 0.1]),
        "b": metrics([0.3, 0.2]),
    }
    nobody = {name: found.where(np.zeros(2, bool)) for name, found in methods.items()}
    found = summarise(methods, {"new users": nobody}, {"fresh": 9.0, "never": 1.0}, {}, BOOTSTRAP, "fresh", "never")
    assert found["freshness"]["ndcg@10"] == pytest.approx(0.1)
    assert found["best_baseline"] == "b"
    assert found["against_baseline"]["ndcg@10"] == pytest.approx(0.25)
    assert found["slices"]["new users"]["freshness"] is None
    assert found["slices"]["new users"]["methods"]["fresh"]["requests"] == 0


def test_without_a_stale_run_no_gain_is_claimed() -> None:
    found = summarise({"fresh": metrics([0.6])}, {}, {"fresh": 1.0}, {}, BOOTSTRAP, "fresh", None)
    assert (found["freshness"], found["best_baseline"], found["against_baseline"]) == (None, None, None)


def test_what_prequential_scoring_collected_is_compared_as_it_is() -> None:
    ranked = RankedRequests(
        request_id=[4], user=["a"], ndcg=[0.5], hit=[1.0], mrr=[0.25], recall=[0.75], items=[["x"]], n_relevant=[1]
    )
    found = from_ranked(ranked)
    assert [found.ndcg_R[0], found.hr_R[0], found.mrr_R[0], found.recall_R[0]] == [0.5, 1.0, 0.25, 0.75]
    assert (found.request_R.tolist(), found.user_R.tolist()) == ([4], ["a"])
    assert len(from_ranked(RankedRequests())) == 0
