"""Slices, calibration, coverage, diversity, forgetting: each refuses what it is there for and says what is too few."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_gates import FACTS, INFRA, LISTS, SETTINGS, scores

from penstock.evaluation.calibration import SLOPES, UNSCALED, best_slope, scaled_losses
from penstock.evaluation.evidence import AnchorScores, Evidence
from penstock.evaluation.gate_slices import EXPECTED
from penstock.evaluation.guards import anchor_gates, calibration_gate, list_gates, slice_gates
from penstock.evaluation.infra import InfraVerdict, infra_gate
from penstock.records import GateResult

REFUSE = SETTINGS.model_copy(update={"too_few": "refuse"})


def evidence(**changes: Any) -> Evidence:
    base = scores()
    masks = {name: np.ones(120, bool) for name in EXPECTED}
    whole = Evidence(base, base, FACTS, INFRA, masks, EXPECTED, LISTS, LISTS)
    return replace(whole, **changes)


def named(gates: list[GateResult]) -> dict[tuple[str, str], bool]:
    return {(gate.name, gate.slice): gate.passed for gate in gates}


def test_a_slice_that_falls_through_its_floor_refuses_while_the_mean_looks_fine() -> None:
    base = scores()
    part = np.arange(120) % 3 == 0
    fallen = replace(base, primary=base.primary - 0.4 * part + 0.2 * ~part)
    assert fallen.primary.mean() >= base.primary.mean()
    found, stated = slice_gates(
        evidence(challenger=fallen, slices={**evidence().slices, "category sport": part}), SETTINGS, 7
    )
    assert named(found)["ndcg_in_slice", "category sport"] is False
    assert sum(not gate.passed for gate in found) == 1
    assert stated == []


def test_a_slice_is_too_small_by_requests_or_by_users() -> None:
    few = {**evidence().slices, "category a": np.arange(120) < 29, "category b": np.arange(120) % 30 < 9}
    found, stated = slice_gates(evidence(slices=few), SETTINGS, 7)
    assert [(one["slice"], one["requests"], one["users"]) for one in stated] == [
        ("category a", 29, 29),
        ("category b", 36, 9),
    ]
    assert len(found) == len(EXPECTED), "it is stated, and is no gate that passed"
    found, stated = slice_gates(evidence(slices=few), REFUSE, 7)
    assert [gate.slice for gate in found if not gate.passed] == ["category a", "category b"]
    assert "29 requests of 29 users" in found[-2].detail
    assert math.isnan(found[-1].observed)


def test_a_slice_that_was_not_measured_refuses() -> None:
    found, _ = slice_gates(evidence(slices={"new users": np.ones(120, bool)}), SETTINGS, 7)
    assert named(found) == {
        ("ndcg_in_slice", "new users"): True,
        ("ndcg_in_slice", "heavy users"): False,
        ("ndcg_in_slice", "new items"): False,
    }
    broken = replace(scores(), primary=np.where(np.arange(120) == 7, np.nan, scores().primary))
    found, _ = slice_gates(evidence(challenger=broken), SETTINGS, 7)
    assert not any(gate.passed for gate in found)
    assert "1 of 120 challenger values are not finite" in found[0].detail


def test_slices_of_different_requests_refuse() -> None:
    found, _ = slice_gates(evidence(champion=scores(requests=90)), SETTINGS, 7)
    assert [gate.passed for gate in found] == [False, False, False]
    assert "different requests" in found[0].detail


def test_texts_without_users_make_slices_by_their_number() -> None:
    lone = replace(scores(users=1), primary_name="accuracy")
    found, stated = slice_gates(
        evidence(challenger=lone, champion=lone, expected=(), slices={"label card": np.arange(120) < 40}), SETTINGS, 7
    )
    assert (named(found), stated) == ({("accuracy_in_slice", "label card"): True}, [])


def test_scaled_losses_by_hand() -> None:
    loss_S = scaled_losses(np.array([True, False]), np.array([1.0, 0.0], np.float32))
    assert loss_S[UNSCALED] == pytest.approx(math.log(1 + math.exp(-1)))
    assert loss_S[-1] == pytest.approx(math.log(1 + math.exp(-8)))
    assert scaled_losses(np.zeros(4, bool), np.ones(4)) == pytest.approx(np.full(len(SLOPES), math.log(4)))


@pytest.mark.parametrize(("sure", "slope"), [(1.0, 1.0), (4.0, 0.25), (0.5, 2.0)])
def test_the_best_slope_undoes_a_model_that_is_too_sure(sure: float, slope: float) -> None:
    """Clicks drawn from softmax of known scores; the model states `sure` times them."""
    random = np.random.default_rng(3)
    true_RC = random.normal(0, 1.5, (1500, 8))
    chosen = (true_RC + random.gumbel(size=true_RC.shape)).argmax(1)
    is_relevant_RC = np.arange(8) == chosen[:, None]
    loss_RS = np.stack([scaled_losses(*row) for row in zip(is_relevant_RC, sure * true_RC, strict=True)])
    assert best_slope(loss_RS)[0] == pytest.approx(slope, rel=0.2)
    gate = calibration_gate(replace(scores(1500, 300), scaled_loss_RS=loss_RS), SETTINGS, 7)
    assert gate.passed == (sure < 4)
    assert gate.observed == pytest.approx(best_slope(loss_RS)[1].mean())


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_calibration_that_is_missing_refuses(value: float | None) -> None:
    loss_RS = None if value is None else np.full((120, len(SLOPES)), value)
    assert not calibration_gate(replace(scores(), scaled_loss_RS=loss_RS), SETTINGS, 7).passed


def test_showing_less_of_the_catalogue_or_more_of_a_kind_refuses() -> None:
    narrow = replace(LISTS, shown=30, coverage=0.15)
    assert named(list_gates(evidence(lists=narrow), SETTINGS)[0]) == {
        ("coverage_vs_champion", "all"): False,
        ("diversity_vs_champion", "all"): True,
    }
    alike = list_gates(evidence(lists=replace(LISTS, diversity=0.2)), SETTINGS)[0]
    assert [gate.passed for gate in alike] == [True, False]
    assert alike[1].observed == pytest.approx(0.2 / 0.7)
    nothing = replace(LISTS, diversity=0.0)
    assert all(gate.passed for gate in list_gates(evidence(lists=nothing, champion_lists=nothing), SETTINGS)[0])


@pytest.mark.parametrize("missing", ["lists", "champion_lists"])
def test_lists_that_were_not_made_refuse(missing: str) -> None:
    found, _ = list_gates(evidence(**{missing: None}), SETTINGS)
    assert [gate.passed for gate in found] == [False, False]
    broken = replace(LISTS, diversity=math.nan)
    assert not list_gates(evidence(**{missing: broken}), SETTINGS)[0][1].passed


def test_a_first_version_has_no_lists_to_compare_with_and_it_is_said() -> None:
    found, stated = list_gates(evidence(champion=None, champion_lists=None), SETTINGS)
    assert (found, [one["name"] for one in stated]) == ([], ["coverage_vs_champion", "diversity_vs_champion"])


def anchor(age: int, challenger: float, champion: float | None, then: float, requests: int = 60) -> AnchorScores:
    lean = 0.01 * np.sin(np.arange(requests))
    other = None if champion is None else champion + lean
    user = np.arange(requests) % 40
    return AnchorScores(age, "2026-03-02T10:20:00+00:00", user, challenger - lean, other, np.full(requests, then))


def test_what_was_known_then_must_not_be_lost() -> None:
    anchors = (anchor(1, 0.6, 0.6, 0.6), anchor(5, 0.3, 0.6, 0.3), anchor(20, 0.3, 0.3, 0.6))
    found, stated = anchor_gates(evidence(anchors=anchors), SETTINGS, 7)
    when = "2026-03-02 10:20"
    assert named(found) == {
        ("forgetting", f"1 round ago, {when} UTC"): True,
        ("erosion", f"1 round ago, {when} UTC"): True,
        ("forgetting", f"5 rounds ago, {when} UTC"): False,
        ("erosion", f"5 rounds ago, {when} UTC"): True,
        ("forgetting", f"20 rounds ago, {when} UTC"): True,
        ("erosion", f"20 rounds ago, {when} UTC"): False,
    }
    assert stated == []


def test_an_anchor_that_is_too_small_or_broken() -> None:
    small = (anchor(1, 0.6, 0.6, 0.6, requests=12),)
    found, stated = anchor_gates(evidence(anchors=small), SETTINGS, 7)
    assert (found, stated[0]["requests"]) == ([], 12)
    assert not anchor_gates(evidence(anchors=small), REFUSE, 7)[0][0].passed
    broken = (anchor(1, math.nan, 0.6, 0.6),)
    assert not any(gate.passed for gate in anchor_gates(evidence(anchors=broken), SETTINGS, 7)[0])


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (None, "not loaded in a fresh process"),
        (InfraVerdict.failed("no answer within 60 s"), "no answer within 60 s"),
        (replace(INFRA, digest="d" * 64), "stale: bundle dddddddddddd was loaded"),
        (replace(INFRA, answers=0), "no request was answered"),
        (replace(INFRA, median_ms=51.0), "median 51.0 ms"),
        (replace(INFRA, median_ms=math.nan), "median nan ms"),
        (replace(INFRA, faults=("nobody: 3 items, expected 10",)), "expected 10"),
    ],
)
def test_the_infra_gate_refuses_whatever_is_not_a_clean_verdict(verdict: InfraVerdict | None, says: str) -> None:
    gate = infra_gate(verdict, "c" * 64, 50.0)
    assert not gate.passed
    assert says in gate.detail
    assert infra_gate(INFRA, "c" * 64, 50.0).passed
