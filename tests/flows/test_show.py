"""What the demo prints is what happened."""

from rich.console import Console

from flows.show import Show
from penstock.records import GateReport, GateResult


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
