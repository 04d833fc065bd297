"""The figures of a watch period: intervals that hold however often one looks, and what counts as worse."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_bench import NOW, ROOT, Bench

from penstock.registry.promotion import rollback
from penstock.registry.watch_period import Counted, compare, confidence_sequence, periods, wilson
from penstock.settings import PromotionSettings, load_settings

PROMOTION = load_settings(ROOT / "params.yaml", {}).promotion


@pytest.fixture
def rules(bench: Bench) -> PromotionSettings:
    return bench.settings.promotion


def test_wilson_s_interval_by_hand() -> None:
    """81 of 263 at 95%: Newcombe (1998), table I, method 3: 0.2553 to 0.3662."""
    low, high = wilson(81, 263, 0.05)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 0, 0.05) == (0.0, 1.0)


def test_the_confidence_sequence_by_hand() -> None:
    """No hit in one trial: Beta(1/2, 3/2) / Beta(1/2, 1/2) = 1/2, so p is inside while 1 - p > alpha / 2."""
    low, high = confidence_sequence(0, 1, 0.1)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.1 / 2)
    assert confidence_sequence(0, 0, 0.1) == (0.0, 1.0)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.1, 0.01, 0.001]))
def test_it_holds_the_share_and_is_wider_than_a_single_look_s(trials: int, share: float, alpha: float) -> None:
    hits = round(share * trials)
    low, high = confidence_sequence(hits, trials, alpha)
    assert 0 <= low <= hits / trials <= high <= 1
    assert (low > 0, high < 1) == (hits > 0, hits < trials)
    mirrored = confidence_sequence(trials - hits, trials, alpha)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_looking_again_and_again_fools_a_fixed_interval_and_not_the_sequence() -> None:
    """200 streams of a share that never changes, looked at 40 times each, at 10%."""
    chance, alpha, share = random.Random(7), 0.1, 0.1
    fooled = {"fixed": 0, "sequence": 0}
    for _ in range(200):
        hits, wrong = 0, {"fixed": False, "sequence": False}
        for look in range(1, 41):
            hits += sum(chance.random() < share for _ in range(25))
            for name, interval in (("fixed", wilson), ("sequence", confidence_sequence)):
                low, high = interval(hits, look * 25, alpha)
                wrong[name] |= not low <= share <= high
        for name in fooled:
            fooled[name] += wrong[name]
    assert fooled["sequence"] <= alpha * 200
    assert fooled["fixed"] > 2 * alpha * 200


def test_clearly_fewer_clicks_are_worse_and_a_little_fewer_are_not(rules: PromotionSettings) -> None:
    expected = Counted(5000, 500, 0)
    clicks, errors = compare(expected, Counted(2000, 60, 0), rules)
    assert (clicks.name, clicks.worse, errors.worse) == ("click rate", True, False)
    assert clicks.limit == pytest.approx(0.9 * clicks.expected_low)
    assert "click rate 3.00%" in clicks.sentence()
    assert "expected 10.00%" in clicks.sentence()
    for clicked in (200, 185, 400):
        assert not compare(expected, Counted(2000, clicked, 0), rules)[0].worse


def test_too_few_answers_give_no_verdict_on_clicks(rules: PromotionSettings) -> None:
    few = rules.watch_min_answers - 1
    for expected, live in ((Counted(few, few, 0), Counted(5000, 0, 0)), (Counted(5000, 5000, 0), Counted(few, 0, 0))):
        clicks = compare(expected, live, rules)[0]
        assert (clicks.limit, clicks.worse) == (None, False)
        assert "too little is known" in clicks.sentence()


def test_failing_is_noticed_at_once_and_without_a_past(rules: PromotionSettings) -> None:
    for expected in (Counted(5000, 500, 0), Counted()):
        assert compare(expected, Counted(12, 0, 12), rules)[1].worse
        assert not compare(expected, Counted(300, 30, 0), rules)[1].worse
    few = Counted(4000, 0, 30, 3970)
    assert not compare(Counted(5000, 500, 0), few, rules)[1].worse, "30 of 4,000, clicks yet unknown"
    assert not compare(Counted(5000, 100, 1000), Counted(500, 10, 100), rules)[1].worse, "it was so before"


@given(st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1), st.floats(0, 1))
def test_figures_are_finite_whatever_was_counted(before: int, since: int, clicked: float, failed: float) -> None:
    expected = Counted(before, int(before * clicked * (1 - failed)), int(before * failed))
    live = Counted(since, int(since * clicked * (1 - failed)), int(since * failed))
    for one in compare(expected, live, PROMOTION):
        assert all(math.isfinite(value) for value in (one.expected_low, one.expected_high, one.live_low, one.live_high))
        assert one.live_low <= one.live_high


def test_a_promotion_begins_one_and_the_first_and_a_rollback_do_not(bench: Bench) -> None:
    first = bench.champion()
    assert periods(bench.state, "local") == []
    second = bench.champion()
    (period,) = periods(bench.state, "local", under_way=True)
    assert (period.number, period.previous, period.started_at) == (second.number, first.number, NOW)
    rollback(bench.registry, bench.state, "ada", "clicks fell", None, NOW)
    assert len(periods(bench.state, "local")) == 1
    assert periods(bench.state, "elsewhere") == []
