"""Gates fail closed, judge by the unfavourable end of the interval, and leave a verifiable report."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from core_bench import ROOT

from penstock.errors import GateError
from penstock.evaluation.calibration import SLOPES
from penstock.evaluation.false_promotions import RoundBudget
from penstock.evaluation.gates import (
    BundleFacts,
    Evidence,
    InfraVerdict,
    RequestScores,
    judge,
    read_report,
    write_report,
)
from penstock.evaluation.top_lists import ListFigures
from penstock.records import GateReport, GateResult
from penstock.settings import GateSettings, load_settings

SETTINGS = load_settings(ROOT / "params.yaml", {}).gates.model_copy(
    update={
        "min_requests": 20,
        "bootstrap_resamples": 200,
        "confidence": 0.95,
        "ndcg_margin": 0.01,
        "auc_margin": 0.01,
        "log_loss_margin": 0.05,
        "required_gain": None,
    }
)
LISTS = ListFigures(40, 90, 200, 0.45, 0.7, "pairs of different categories")
INFRA = InfraVerdict("c" * 64, (), 12, 3.0, 9.0, 0.8)
FACTS = BundleFacts(parity_error=2e-6, latency_ms=12.0, size_mb=90.0)
BUDGET = RoundBudget(level=0.0025, spent=0.0, rounds=0, per_month=0.05)
SLIPS = {"ndcg": "primary", "auc": "auc", "log_loss": "log_loss"}


def scores(requests: int = 120, users: int = 30) -> RequestScores:
    rng = np.random.default_rng(0)
    return RequestScores(
        user=np.array([f"user{row % users}" for row in range(requests)]),
        primary=rng.random(requests) * 0.5,
        auc=0.5 + rng.random(requests) * 0.5,
        log_loss=0.3 + rng.random(requests) * 0.1,
        n_relevant=np.ones(requests, np.int64),
        scaled_loss_RS=0.3 + 0.1 * np.log(SLOPES) ** 2 + 0.01 * rng.random((requests, 1)),
    )


def unlike(found: RequestScores) -> RequestScores:
    """The same but for a little, equal in the mean: no two models agree to the last digit."""
    wave_R = 1e-3 * np.sin(np.arange(len(found.user)) ** 2)
    wave_R = wave_R - (wave_R.mean() if len(wave_R) else 0.0)
    return replace(found, primary=found.primary + wave_R, auc=found.auc + wave_R, log_loss=found.log_loss + wave_R)


def verdict(
    challenger: RequestScores,
    champion: RequestScores | None,
    facts: BundleFacts = FACTS,
    settings: GateSettings = SETTINGS,
    budget: RoundBudget = BUDGET,
) -> GateReport:
    if champion is not None:
        challenger = unlike(challenger)
    evidence = Evidence(challenger, champion, facts, INFRA, lists=LISTS, champion_lists=LISTS if champion else None)
    return judge(
        evidence,
        settings,
        7,
        budget,
        challenger_digest="c" * 64,
        champion_digest=None if champion is None else "a" * 64,
        snapshot_id="2026-01-01T00-00",
        created_at="2026-01-01T00:10:00+00:00",
    )


def gate(report: GateReport, name: str) -> GateResult:
    return next(found for found in report.gates if found.name == name)


def test_an_equal_challenger_passes_every_gate() -> None:
    report = verdict(scores(), scores())
    assert report.passed
    names = [found.name for found in report.gates]
    assert names == [
        "enough_requests",
        "ndcg_vs_champion",
        "auc_vs_champion",
        "log_loss_vs_champion",
        "calibration",
        "coverage_vs_champion",
        "diversity_vs_champion",
        "parity",
        "latency",
        "size",
        "infra",
    ]
    assert (report.requests, report.users) == (120, 30)


@pytest.mark.parametrize(("stem", "column", "change"), [("ndcg", "primary", -0.02), ("auc", "auc", -0.02)])
def test_a_drop_beyond_the_margin_refuses(stem: str, column: str, change: float) -> None:
    base = scores()
    report = verdict(replace(base, **{column: getattr(base, column) + change}), base)
    assert report.refusals == (f"{stem}_vs_champion",)
    assert gate(report, f"{stem}_vs_champion").observed == pytest.approx(change)


def test_a_higher_log_loss_refuses_and_a_lower_one_does_not() -> None:
    base = scores()
    assert verdict(replace(base, log_loss=base.log_loss + 0.06), base).refusals == ("log_loss_vs_champion",)
    assert verdict(replace(base, log_loss=base.log_loss - 0.06), base).passed


def test_the_low_end_decides_not_the_mean() -> None:
    base = scores()
    noisy = np.where(np.arange(120) % 30 < 15, 0.3, -0.299)  # whole users much better, others much worse
    report = verdict(replace(base, primary=base.primary + noisy), base)
    found = gate(report, "ndcg_vs_champion")
    assert found.observed > 0
    assert found.low is not None
    assert found.low < found.threshold
    assert not found.passed


def test_a_round_judges_at_its_own_level() -> None:
    base = scores(requests=400, users=200)
    random = np.random.default_rng(1)
    moved = replace(base, primary=base.primary + random.normal(0, 0.09, 400))
    at_first, thinned = verdict(moved, base), verdict(moved, base, budget=replace(BUDGET, level=1e-7))
    assert gate(at_first, "ndcg_vs_champion").passed is False or not gate(thinned, "ndcg_vs_champion").passed
    first, last = gate(at_first, "ndcg_vs_champion"), gate(thinned, "ndcg_vs_champion")
    assert first.low is not None
    assert last.low is not None
    assert last.low < first.low < first.observed == last.observed
    assert "the bound at level 1e-07" in last.detail
    budget = thinned.extra["false_promotions"]
    assert (budget["level"], budget["per_month"]) == (1e-7, 0.05)
    assert 1e-7 < budget["p_value"] < 1


def test_the_p_value_is_that_of_the_weakest_comparison() -> None:
    base = scores()
    worse = verdict(replace(base, auc=base.auc - 0.05 * (np.arange(120) % 2)), base).extra["false_promotions"]
    assert worse["p_value"] > 0.9
    assert verdict(base, base).extra["false_promotions"]["p_value"] < 0.9
    assert verdict(base, None).extra["false_promotions"]["p_value"] is None


def test_too_few_requests_are_no_test_and_spend_nothing() -> None:
    few = scores(requests=19, users=19)
    assert verdict(few, few).extra["false_promotions"]["p_value"] is None


def test_a_gain_that_is_asked_for_must_be_shown() -> None:
    base, asked = scores(), SETTINGS.model_copy(update={"required_gain": 0.02})
    level = verdict(base, base, settings=asked)
    assert level.refusals == ("ndcg_gain",)
    ahead = replace(base, primary=base.primary + 0.05 + 0.01 * np.sin(np.arange(120)))
    assert verdict(ahead, base, settings=asked).passed
    assert verdict(base, None, settings=asked).passed, "the first version has nobody to gain on"


def test_figures_that_are_all_alike_say_only_what_their_number_says() -> None:
    base = replace(scores(requests=200, users=150), primary_name="accuracy")
    evidence = Evidence(base, base, FACTS, INFRA)
    wide, narrow = SETTINGS.model_copy(update={"ndcg_margin": 0.05}), SETTINGS
    for settings, passed in ((wide, True), (narrow, False)):
        report = judge(
            evidence,
            settings,
            7,
            BUDGET,
            challenger_digest="c" * 64,
            champion_digest="a",
            snapshot_id="s",
            created_at="t",
        )
        found = gate(report, "accuracy_vs_champion")
        assert (found.observed, found.passed) == (0.0, passed)
        assert found.low == pytest.approx(0.0025 ** (1 / 150) - 1)


def test_too_few_requests_refuse() -> None:
    report = verdict(scores(requests=19, users=19), None)
    assert report.refusals == ("enough_requests",)
    assert gate(report, "enough_requests").observed == 19


def test_requests_without_a_relevant_item_do_not_count_as_enough() -> None:
    base = scores(requests=40)
    empty = replace(base, n_relevant=np.r_[np.ones(10, np.int64), np.zeros(30, np.int64)])
    assert gate(verdict(empty, None), "enough_requests").observed == 10


def test_undefined_values_of_unmeasurable_requests_are_left_out() -> None:
    base = scores()
    primary, auc_R = base.primary.copy(), base.auc.copy()
    n_relevant = base.n_relevant.copy()
    n_relevant[0], primary[0], auc_R[0] = 0, math.nan, math.nan
    n_relevant[1], auc_R[1] = 5, math.nan
    some = replace(
        base, primary=primary, auc=auc_R, n_relevant=n_relevant, n_candidates=np.full(120, 5), log_loss=base.log_loss
    )
    assert verdict(some, some).passed
    assert not verdict(replace(some, n_candidates=None), some).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("stem", list(SLIPS))
@pytest.mark.parametrize("who", ["challenger", "champion", "alone"])
def test_one_value_that_is_not_finite_refuses(who: str, stem: str, value: float) -> None:
    base = scores()
    column = getattr(base, SLIPS[stem]).copy()
    column[5] = value
    broken = replace(base, **{SLIPS[stem]: column})
    report = {
        "challenger": lambda: verdict(broken, base),
        "champion": lambda: verdict(base, broken),
        "alone": lambda: verdict(broken, None),
    }[who]()
    assert report.refusals == ("finite_metrics" if who == "alone" else f"{stem}_vs_champion",)
    assert "1 of 120" in gate(report, report.refusals[0]).detail


def test_no_request_at_all_refuses() -> None:
    report = verdict(scores(requests=0), None)
    assert set(report.refusals) == {"enough_requests", "finite_metrics", "calibration"}
    assert set(verdict(scores(requests=0), scores(requests=0)).refusals) >= {"ndcg_vs_champion", "auc_vs_champion"}


def test_a_champion_that_was_not_scored_refuses() -> None:
    report = judge(
        Evidence(scores(), None, FACTS, INFRA),
        SETTINGS,
        7,
        BUDGET,
        challenger_digest="c" * 64,
        champion_digest="a",
        snapshot_id="s",
        created_at="2026-01-01T00:10:00+00:00",
    )
    assert report.refusals == ("ndcg_vs_champion", "auc_vs_champion", "log_loss_vs_champion")
    assert "was not scored" in report.gates[1].detail


def test_scores_of_different_requests_refuse() -> None:
    other = replace(scores(), user=scores().user[::-1])
    assert "different requests" in gate(verdict(scores(), other), "ndcg_vs_champion").detail
    assert not verdict(scores(), other).passed


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (replace(FACTS, parity_error=0.002), "parity"),
        (replace(FACTS, parity_error=math.nan), "parity"),
        (replace(FACTS, latency_ms=51.0), "latency"),
        (replace(FACTS, latency_ms=-1.0), "latency"),
        (replace(FACTS, size_mb=math.inf), "size"),
    ],
)
def test_bundle_facts_have_limits(facts: BundleFacts, name: str) -> None:
    assert verdict(scores(), scores(), facts).refusals == (name,)


def test_texts_without_a_user_are_drawn_one_by_one() -> None:
    base = replace(scores(users=1), primary_name="accuracy")
    worse = replace(base, primary=np.where(np.arange(120) % 4 == 0, 0.0, base.primary))
    found = gate(verdict(worse, base), "accuracy_vs_champion")
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.observed < found.high
    assert "requests of the only user" in found.detail


def test_different_primary_metrics_are_an_error() -> None:
    with pytest.raises(GateError, match="scored by accuracy, the challenger by ndcg@10"):
        verdict(scores(), replace(scores(), primary_name="accuracy"))


def test_columns_of_different_lengths_are_an_error() -> None:
    with pytest.raises(GateError, match="one value per request"):
        replace(scores(), auc=np.zeros(3))


def test_the_same_inputs_give_the_same_report_and_digest() -> None:
    base, slightly = scores(), replace(scores(), primary=scores().primary + 0.001)
    assert verdict(slightly, base).digest == verdict(slightly, base).digest
    assert verdict(slightly, base).digest != verdict(base, base).digest


def test_a_report_survives_the_disk_even_with_figures_that_are_not_finite(tmp_path) -> None:
    broken = replace(scores(), primary=np.full(120, math.nan))
    for number, report in enumerate([verdict(scores(), scores()), verdict(broken, scores())]):
        path, _ = write_report(report, tmp_path / str(number))
        assert read_report(path).digest == report.digest
        assert read_report(path).passed == report.passed
        tree = json.loads(path.read_text())
        assert (tree["passed"], tree["digest"]) == (report.passed, report.digest)
        assert sorted(file.name for file in path.parent.iterdir()) == ["gate-report.html", "gate-report.json"]


def test_an_altered_report_is_refused(tmp_path) -> None:
    broken = replace(scores(), primary=scores().primary - 0.1)
    path, _ = write_report(verdict(broken, scores()), tmp_path)
    path.write_text(path.read_text().replace('"passed": false', '"passed": true'))
    with pytest.raises(GateError, match="was altered"):
        read_report(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": 1, "gates": []}'])
def test_what_is_no_report_is_an_error(tmp_path, content: str) -> None:
    path = tmp_path / "gate-report.json"
    path.write_text(content)
    with pytest.raises(GateError, match="no gate report"):
        read_report(path)
