"""Charts are well-formed, say what they were given, and refuse to draw nothing."""

import itertools
import xml.etree.ElementTree as ElementTree

import pytest

from penstock.errors import GateError
from penstock.evaluation.charts import Line, bars, cost_chart, forest, line_chart, log_ticks, nice_ticks


def test_a_line_chart_holds_every_point_in_its_frame() -> None:
    lines = [
        Line("fresh <1h>", "0.2", [(0.0, 0.1), (3600.0, 0.3)], True),
        Line("popularity", "", [(0.0, 0.1), (3600.0, 0.1)], False),
    ]
    tree = ElementTree.fromstring(line_chart(lines, "a & b", height=300))
    found = tree.findall("polyline")
    assert [line.get("class") for line in found] == ["line s0", "line grey"]
    for line in found:
        for pair in line.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 900
            assert 0 <= y <= 300
    assert "fresh <1h> 0.2" in [text.text for text in tree.findall("text")]


def test_labels_at_one_height_do_not_cover_each_other() -> None:
    lines = [Line(f"m{n}", "", [(0.0, 0.1), (1.0, 0.1)], True) for n in range(6)]
    tree = ElementTree.fromstring(line_chart(lines, "level"))
    heights = sorted(float(text.get("y", "")) for text in tree.findall("text") if (text.text or "").startswith("m"))
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 14.9


def test_a_forest_colours_by_the_interval_not_by_the_mean() -> None:
    rows = {
        "up": (0.1, 0.05, 0.2),
        "down": (-0.1, -0.2, -0.05),
        "unsure": (0.1, -0.01, 0.2),
        "alone": (0.1, None, None),
    }
    dots = ElementTree.fromstring(forest(rows, "t")).findall("circle")
    assert [dot.get("class") for dot in dots] == ["dot up", "dot down", "dot unsure", "dot unsure"]


def test_bars_are_as_long_as_their_share() -> None:
    widths = [
        float(bar.get("width", ""))
        for bar in ElementTree.fromstring(bars({"a": (0.25, 0.2, 0.3), "b": (0.5, None, None)}, "t")).findall("rect")
    ]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)


def test_a_cost_of_nothing_stands_left_of_every_other() -> None:
    points = {"never": (0.0, 0.0, None, None), "1d": (3.0, 0.1, 0.05, 0.2), "1h": (300.0, 0.1, 0.05, 0.2)}
    places = [float(dot.get("cx", "")) for dot in ElementTree.fromstring(cost_chart(points, "t")).findall("circle")]
    assert places == sorted(places)
    assert places[0] < places[1]


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.003, 0.004, [-0.004, -0.002, 0, 0.002, 0.004])]
)
def test_ticks_are_round_and_enclose(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1.9, 7.4, [1, 2, 5, 10]), (10, 10, [10, 20]), (3, 90_000, [1, 10, 100, 1000, 10_000, 100_000])],
)
def test_logarithmic_ticks_enclose(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_values_close_together_fill_the_chart() -> None:
    tree = ElementTree.fromstring(line_chart([Line("a", "", [(0.0, 0.60), (1.0, 0.64)], True)], "t"))
    assert "0.60" in [text.text for text in tree.findall("text")]
    assert "0" not in [text.text for text in tree.findall("text")]
    tree = ElementTree.fromstring(line_chart([Line("a", "", [(0.0, 0.60), (1.0, 0.64)], True)], "t", with_zero=True))
    assert "0" in [text.text for text in tree.findall("text")]


def test_ticks_of_a_single_value() -> None:
    for value in (0.0, 0.1):
        ticks = nice_ticks(value, value + 1e-17)
        assert ticks[0] <= value <= ticks[-1]
        assert ticks[0] < ticks[-1]


@pytest.mark.parametrize("draw", [forest, bars, cost_chart])
def test_nothing_to_draw_is_an_error(draw) -> None:
    with pytest.raises(GateError, match="nothing to draw"):
        draw({}, "empty")
    with pytest.raises(GateError, match="no line has a point"):
        line_chart([], "empty")


def test_what_never_moves_is_drawn_from_zero() -> None:
    svg = line_chart([Line("learning rate", "0.03", [(1.0, 0.03), (2.0, 0.03)], True)], "Learning rate", by_step=True)
    assert ">0<" in svg or ">0.00<" in svg or ">0.000<" in svg
