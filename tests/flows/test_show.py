"""What the demo prints is what happened."""

import numpy as np
from rich.console import Console

from flows.show import Show
from penstock.pipeline.compare import WindowComparison
from penstock.records import GateReport, GateResult, RoundResult


def show() -> Show:
    return Show(steps=2, console=Console(record=True, width=120, force_terminal=False))


def test_a_refused_gate_is_named_with_its_figures() -> None:
    narrator = show()
    gate = GateResult("ndcg", "ndcg@10", "all", ">=", -0.01, -0.2, -0.25, -0.15, False, "worse")
    narrator.gates(GateReport("c" * 64, "d" * 64, "s1", "2024-01-01T00:00:00+00:00", 40, 20, (gate,)))
    text = narrator.console.export_text()
    assert "refused" in text
    assert "-0.2000" in text
    assert "-0.2500 … -0.1500" in text
    assert ">= -0.01" in text


def test_the_two_top_tens_mark_what_moved() -> None:
    narrator = show()
    narrator.before_and_after(["a", "b", "c"], ["c", "b", "d"])
    lines = [line.split() for line in narrator.console.export_text().splitlines() if line.strip()]
    assert ["1", "a", "c", "▲2"] in lines
    assert ["2", "b", "b"] in lines
    assert ["3", "c", "d", "new"] in lines


def test_steps_are_numbered_and_timed() -> None:
    narrator = show()
    with narrator.step("first"):
        narrator.line("inside")
    with narrator.step("second"):
        pass
    text = narrator.console.export_text()
    assert "1/2  first" in text
    assert "2/2  second" in text
    assert " s" in text


def test_a_title_with_brackets_is_printed_as_it_is() -> None:
    narrator = show()
    narrator.before_and_after(["[red]"], ["[b]x"])
    text = narrator.console.export_text()
    assert "[red]" in text
    assert "[b]x" in text


def compared(possible: float | None) -> WindowComparison:
    user_R, half_R = np.array(["u", "v"]), np.array([0.5, 0.5])
    return WindowComparison("round 1", "3", user_R, half_R, np.array([0.25, 0.5]), possible)


def test_fresh_and_stale_are_told_with_their_share_of_the_possible_where_it_is_known() -> None:
    narrator = show()
    narrator.compared([compared(0.8)])
    assert ["round", "1", "3", "2", "0.5000", "0.3750", "+0.1250", "62%", "/", "47%"] in [
        line.split() for line in narrator.console.export_text().splitlines()
    ]
    narrator.compared([compared(0.8), compared(None)])
    assert "possible" not in narrator.console.export_text()


def test_the_summary_has_every_round_and_a_reason_of_one_line() -> None:
    narrator = show()
    refused = RoundResult("r", "s", "quarantined", None, None, "bad rows " * 40, {}, {})
    narrator.rounds([("first", RoundResult("r", "s", "promoted", "1", "d", "fine", {"gate": 1.5}, {}), 40)])
    narrator.rounds([("second", refused, 7)])
    text = narrator.console.export_text()
    assert ["first", "40", "1", "promoted", "1.5", "fine"] in [line.split() for line in text.splitlines()]
    assert "quarantined" in text
    assert "…" in text
