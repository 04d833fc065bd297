"""Where freshness stops paying, forgetting, and who gains, on figures made by hand."""

import numpy as np
import pytest

from penstock.evaluation.cadences import (
    Cost,
    compare_cadences,
    forgetting,
    forgetting_curve,
    gains_and_losses,
    recall_of_sources,
)
from penstock.evaluation.comparison import Bootstrap, RequestMetrics
from penstock.evaluation.outcomes import Outcome, Wanted
from penstock.evaluation.words import (
    baseline_sentences,
    forgetting_sentence,
    pays_sentences,
    slice_sentences,
)

BOOTSTRAP = Bootstrap(resamples=300, seed=7, confidence=0.95)
COSTS = {
    "15m": Cost(900, 400.0, 9.0, 80, 1000),
    "1h": Cost(3600, 100.0, 9.0, 20, 1000),
    "1d": Cost(86400, 10.0, 9.0, 2, 1000),
    "never": Cost(None, 0.0, 9.0, 0, 0),
}


def figures(gain: float, noise: float = 0.0) -> RequestMetrics:
    """Sixty requests of thirty users, `gain` above a common base, each user off by up to `noise`."""
    base_R = np.random.default_rng(0).random(60) * 0.5
    off_R = np.tile(np.random.default_rng(1).uniform(-noise, noise, 30), 2)
    value_R = base_R + gain + off_R - off_R.mean()
    user_R = np.array([f"u{row % 30}" for row in range(60)])
    return RequestMetrics(np.arange(60), user_R, value_R, value_R, value_R, value_R)


def test_the_walk_stops_where_a_faster_cadence_is_not_shown_to_add() -> None:
    methods = {"never": figures(0.0), "1d": figures(0.1), "1h": figures(0.101, 0.2), "15m": figures(0.09)}
    found = compare_cadences(methods, COSTS, BOOTSTRAP)
    assert found["order"] == ["never", "1d", "1h", "15m"]
    assert [(step["slower"], step["faster"], step["extra_s"]) for step in found["steps"]] == [
        ("never", "1d", 10.0),
        ("1d", "1h", 90.0),
        ("1h", "15m", 300.0),
    ]
    assert [(step["held"], step["tried"], step["moved"]) for step in found["walk"]] == [
        ("never", "1d", True),
        ("1d", "1h", False),
        ("1d", "15m", False),
    ]
    assert found["pays_until"] == "1d"
    said = pays_sentences(found)
    assert said[0] == "Freshness is shown to pay up to “1d”: NDCG@10 +0.1000 [+0.1000, +0.1000] over “never”."
    assert said[1].startswith("“1h” is not shown to add to “1d”: +0.0010 [")
    assert said[1].endswith("for 100.0 s of learning instead of 10.0 s (10.0×).")
    assert said[2].startswith("“15m” loses to “1d”: -0.0100")


def test_a_step_too_small_alone_still_counts_together_with_the_next() -> None:
    methods = {"never": figures(0.0), "1d": figures(0.001, 0.2), "1h": figures(0.05)}
    found = compare_cadences(methods, {name: COSTS[name] for name in methods}, BOOTSTRAP)
    assert [step["moved"] for step in found["walk"]] == [False, True]
    assert found["pays_until"] == "1h"
    assert pays_sentences(found)[1] == "That is the fastest cadence that was run; a faster one may pay too."


def test_nothing_pays_and_one_cadence_alone() -> None:
    pair = {name: COSTS[name] for name in ("1d", "never")}
    level = compare_cadences({"never": figures(0.0), "1d": figures(0.0, 0.2)}, pair, BOOTSTRAP)
    assert "no faster cadence is shown to pay" in pays_sentences(level)[0]
    alone = compare_cadences({"1d": figures(0.0)}, {"1d": COSTS["1d"]}, BOOTSTRAP)
    assert pays_sentences(alone) == ["Only “1d” was run, so no cadence can be weighed against another."]


def test_forgetting_pairs_the_requests_that_have_an_auc_at_every_moment() -> None:
    moments = {
        "before": {1: 0.6, 2: 0.7, 3: None},
        "after": {1: 0.9, 2: 0.8, 3: 0.9},
        "end": {1: 0.7, 2: 0.8, 3: 0.1},
    }
    found = forgetting({1: "a", 2: "b", 3: "c"}, moments, BOOTSTRAP)
    assert found is not None
    assert found["requests"] == 2
    assert [found["auc_before"], found["auc_after"], found["auc_end"]] == pytest.approx([0.65, 0.85, 0.75])
    assert found["end_minus_before"]["auc"] == pytest.approx(0.1)
    assert [found["end_minus_after"][key] for key in ("auc", "low", "high")] == pytest.approx([-0.1, -0.2, 0.0])
    said = forgetting_sentence("fresh", found, 0.003)
    assert "-10.00 points [-20.00, +0.00] against 85.00 just after it was learned" in said
    assert "The mean is beyond the 0.3 points that may be lost, but the intervals are too wide to tell" in said
    assert forgetting({3: "c"}, {name: {3: one[3]} for name, one in moments.items()}, BOOTSTRAP) is None


def test_the_forgetting_curve_follows_the_first_window_through_time() -> None:
    moments = {
        "end": {1: 0.6, 2: 0.5, 3: 0.1},
        "before": {1: 0.6, 2: 0.7, 3: None},
        "after": {1: 0.9, 2: 0.8, 3: 0.9},
    }
    at_s = {"before": 0.0, "end": 200.0, "after": 10.0}
    curve = forgetting_curve({1: "a", 2: "b", 3: "c"}, moments, at_s, BOOTSTRAP)
    assert [row["moment"] for row in curve] == ["before", "after", "end"]
    assert [row["auc"] for row in curve] == pytest.approx([0.65, 0.85, 0.55])
    assert [curve[2][key] for key in ("difference", "low", "high")] == pytest.approx([-0.1, -0.2, 0.0])
    assert forgetting_curve({3: "c"}, {name: {3: one[3]} for name, one in moments.items()}, at_s, BOOTSTRAP) == []


def test_forgetting_of_one_user_has_no_interval() -> None:
    moments = {name: {1: 0.5, 2: 0.6} for name in ("before", "after", "end")}
    found = forgetting({1: "a", 2: "a"}, moments, BOOTSTRAP)
    assert found is not None
    assert found["end_minus_after"] == {"auc": 0.0, "low": None, "high": None}
    assert "too wide to tell" in forgetting_sentence("fresh", found, 0.003)


@pytest.mark.parametrize(("lost", "words"), [(0.0, "That is within the 0.3"), (0.1, "That is more than the 0.3")])
def test_forgetting_is_judged_where_the_interval_allows(lost: float, words: str) -> None:
    fresh = dict.fromkeys(range(9), 0.6)
    moments = {"before": fresh, "after": fresh, "end": {number: auc - lost for number, auc in fresh.items()}}
    found = forgetting({number: f"u{number}" for number in fresh}, moments, BOOTSTRAP)
    assert found is not None
    assert words in forgetting_sentence("fresh", found, 0.003)


def test_users_and_items_that_moved() -> None:
    rows = [(n, f"u{n % 3}", 0, float(n), ["good" if n % 2 else "bad"]) for n in range(12)]
    wanted = Wanted.of(rows)
    plain = np.array([2] * 12)
    better = np.where(wanted.item_F == "good", 1, 0)
    zeros = np.zeros(12)
    found = gains_and_losses(
        wanted, Outcome(better, zeros, zeros), Outcome(plain, zeros, zeros), {"good": "A", "bad": "B"}
    )
    assert found["users"]["all"] == 3
    assert [(row["title"], row["requests"]) for row in found["items_gaining"]] == [("A", 6)]
    assert found["items_gaining"][0]["gain"] == pytest.approx(6 * (1 - 1 / np.log2(3)))
    assert found["items_losing"][0]["gain"] == pytest.approx(-6 / np.log2(3))


def test_recall_of_sources_is_a_mean_with_an_interval() -> None:
    found = recall_of_sources({1: {"union": 1.0}, 2: {"union": 0.0}}, {1: "a", 2: "b"}, ["union"], BOOTSTRAP)
    assert found["union"] == {"recall": 0.5, "low": 0.0, "high": 1.0}
    assert recall_of_sources({1: {"union": 1.0}}, {1: "a"}, ["union"], BOOTSTRAP)["union"]["low"] is None
    assert recall_of_sources({}, {}, ["union"], BOOTSTRAP)["union"]["recall"] is None


def gap(low: float | None, high: float | None, relative: float | None = 0.2) -> dict[str, object]:
    return {"ndcg@10": 0.01, "low": low, "high": high, "relative": relative, "requests": 9, "users": 9}


def test_baselines_are_ahead_level_near_or_beaten() -> None:
    said = baseline_sentences(
        {
            "a": gap(0.01, 0.02),
            "b": gap(0.001, 0.02, relative=0.04),
            "c": gap(-0.01, 0.02),
            "d": gap(-0.02, -0.01),
            "e": None,
        },
        "fresh",
    )
    assert [line.split(":")[0] for line in said] == [
        "Ahead of “fresh”",
        "Not to be told apart from “fresh”",
        "Beaten, but within 5%",
        "Beaten by more than 5%",
        "Not measured with an interval",
    ]
    assert "“d”" in said[0]


def test_slices_say_who_loses_or_that_none_is_shown_to() -> None:
    said = slice_sentences({"new users": gap(0.01, 0.02), "rare items": gap(-0.01, 0.02), "few": None})
    assert said[0].startswith("Gain from freshness: new users (")
    assert said[1] == "No change is shown, the interval holds 0: rare items."
    assert said[2] == "Too few requests or users to say: few."
    assert said[3] == "No slice is shown to lose."
    assert any(line.startswith("Lose by it: old") for line in slice_sentences({"old": gap(-0.02, -0.01)}))
