"""The gate page states every verdict, loads nothing, and escapes what it shows."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from penstock.evaluation.gate_page import WIDTH, format_value, interval_bar, render_page
from penstock.records import GateReport, GateResult

DROP = GateResult(
    "ndcg_vs_champion", "ndcg@10 minus champion's", "all", ">=", -0.01, -0.02, -0.03, -0.012, False, "lower end too low"
)
LATENCY = GateResult("latency", "median ms per request", "all", "<=", 50.0, 12.3, None, None, True, "one request")
MISSING = GateResult("parity", "largest score difference", "all", "<=", 0.001, math.nan, None, None, False, "found nan")


def page(*gates: GateResult, snapshot_id: str = "s") -> str:
    return render_page(GateReport("c" * 64, None, snapshot_id, "2026-01-01", 40, 9, gates), "d" * 64)


def test_the_page_names_verdict_observed_interval_and_threshold() -> None:
    html = page(DROP, LATENCY)
    for text in (
        "refused",
        "Refused by ndcg_vs_champion",
        "-0.0200",
        "-0.0300 to -0.0120",
        "≥ -0.0100",
        "≤ 50",
        "12.30",
    ):
        assert text in html
    assert "All 1 gates passed" in page(LATENCY)
    assert "No gate was measured" in page()


def test_the_page_is_self_contained_and_escaped() -> None:
    html = page(DROP, snapshot_id="<script>alert(1)</script>")
    assert "<script" not in html
    assert "http" not in html
    assert "&lt;script&gt;" in html


def test_a_missing_figure_is_said_and_not_drawn() -> None:
    html = page(MISSING)
    assert "not measured" in html
    assert "<circle" not in html


def test_every_picture_is_well_formed_and_inside_its_frame() -> None:
    pictures = [part.split("</svg>")[0] for part in page(DROP, LATENCY, MISSING).split("<svg")[1:]]
    assert len(pictures) == 3
    for picture in pictures:
        for mark in ElementTree.fromstring(f"<svg{picture}</svg>"):
            for name in ("x", "x1", "x2", "cx"):
                assert 0 <= float(mark.get(name, 0)) <= WIDTH


def test_the_allowed_side_is_where_a_pass_would_lie() -> None:
    bar = interval_bar(DROP)
    assert bar.low is not None
    assert bar.zero is not None
    assert bar.low < bar.threshold < bar.zero
    assert bar.allowed_x == bar.threshold
    latency = interval_bar(LATENCY)
    assert latency.observed is not None
    assert latency.allowed_x <= latency.observed <= latency.allowed_x + latency.allowed_width


@pytest.mark.parametrize(
    ("observed", "threshold", "text"),
    [(2e-7, 0.001, "2e-07"), (91.25, 400.0, "91.25"), (1234.0, 20.0, "1,234"), (math.inf, 1.0, "not measured")],
)
def test_values_are_shown_with_sensible_precision(observed: float, threshold: float, text: str) -> None:
    gate = GateResult("size", "bundle MiB", "all", "<=", threshold, observed, None, None, True, "")
    assert format_value(gate)["observed"] == text


def test_gates_stand_under_headings_and_what_was_not_judged_is_said() -> None:
    sport = GateResult("ndcg_in_slice", "ndcg@10 minus champion's", "category <sport>", ">=", -0.15, -0.2, -0.3, -0.1,
                       False, "worse there")  # fmt: skip
    old = GateResult("forgetting", "ndcg@10 minus champion's", "4 rounds ago, 2026-03-02 10:20 UTC", ">=", -0.15, 0.0,
                     -0.1, 0.1, True, "known still")  # fmt: skip
    extra = {
        "not_judged": [{"name": "ndcg_in_slice", "slice": "heavy users", "why": "9 requests of 4 users"}],
        "false_promotions": {"level": 0.0021, "spent": 0.005, "rounds": 37, "per_month": 0.05, "p_value": 1e-4},
    }
    report = GateReport("c" * 64, "a" * 64, "s", "2026-01-01", 40, 9, (DROP, sport, old, LATENCY), extra)
    html = render_page(report, "d" * 64)
    heads = ["Against the champion", "Slices", "Frozen windows of earlier rounds", "The bundle", "Not judged"]
    assert sorted(html.index(f"<h2>{head}") for head in heads) == [html.index(f"<h2>{head}") for head in heads]
    assert "Refused by ndcg_vs_champion, ndcg_in_slice (category &lt;sport&gt;)" in html
    assert "-0.3000 to -0.1000" in html
    assert "4 rounds ago, 2026-03-02 10:20 UTC" in html
    assert "9 requests of 4 users" in html
    assert "judged at level 0.0021" in html
    assert "10% of the budget of 0.05" in html


def test_a_report_of_an_older_release_has_no_budget_and_nothing_left_out() -> None:
    html = page(DROP)
    assert "Not judged" not in html
    assert "budget" not in html
