"""Charts as inline SVG: no script, no network, colours from the page's style, so they follow light and dark.

Lines in time, and intervals in rows or over a cost. Places are pixels of the viewBox.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from penstock.errors import GateError

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 62, 170, 14, 30
SERIES = 6
MAX_LOG_TICKS = 8
ROW = 28
Point = tuple[float, float]
Interval = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Line:
    """One line: its name, what stands beside the name, its points (x, y), and whether it is drawn as a model."""

    name: str
    note: str
    points: Sequence[Point]
    model: bool


def line_chart(
    lines: Sequence[Line], title: str, height: int = 320, with_zero: bool = False, by_step: bool = False
) -> str:
    """Lines over time (x in UTC seconds), or `by_step`; models in colour, the others grey and dashed.

    The axis holds 0 unless all values are positive, close together and not all the same; `with_zero`: always, as
    differences need it.

    Raises:
        GateError: no line has a point.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise GateError(f"chart “{title}”: no line has a point")
    if with_zero or min(ys) <= max(ys) / 2 or min(ys) == max(ys):
        ys.append(0.0)
    ticks = nice_ticks(min(ys), max(ys))
    place_x = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    place_y = _scale(ticks[0], ticks[-1], height - BOTTOM, TOP)
    axis = _step_axis if by_step else _time_axis
    parts = [_grid_y(ticks, place_y), axis(min(xs), max(xs), place_x, height)]
    if ticks[0] < 0 < ticks[-1]:
        parts.append(_rule(LEFT, place_y(0), WIDTH - RIGHT, place_y(0), "zero"))
    labels: list[tuple[float, str, str]] = []
    colour = 0
    for line in lines:
        style = f"s{colour % SERIES}" if line.model else "grey"
        colour += line.model
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class="line {style}" points="{path}"><title>{escape(line.name)}</title></polyline>')
        if line.points:
            labels.append((place_y(line.points[-1][1]), style, f"{line.name} {line.note}".strip()))
    parts += [
        f'<text class="label {style}" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">{escape(text)}</text>'
        for y, style, text in _apart(labels, 15, height - BOTTOM)
    ]
    return _svg(parts, height, title)


def forest(rows: Mapping[str, Interval], title: str, unit: str = "") -> str:
    """One row for each difference: a point and its interval around a line at 0.

    Raises:
        GateError: there is no row.
    """
    if not rows:
        raise GateError(f"chart “{title}”: nothing to draw")
    values = [value for row in rows.values() for value in row if value is not None]
    ticks = nice_ticks(min(0.0, *values), max(0.0, *values))
    left = 250
    height = TOP + ROW * len(rows) + BOTTOM
    place = _scale(ticks[0], ticks[-1], left, WIDTH - 190)
    parts = [_rule(place(tick), TOP, place(tick), height - BOTTOM, "grid") for tick in ticks]
    parts += [_text(place(tick), height - 10, _tick(tick, ticks), "tick middle") for tick in ticks]
    parts.append(_rule(place(0), TOP, place(0), height - BOTTOM, "zero"))
    for index, (name, (value, low, high)) in enumerate(rows.items()):
        y = TOP + ROW * index + ROW / 2
        style = "unsure" if low is None or high is None or low <= 0 <= high else "up" if value > 0 else "down"
        parts.append(_text(left - 12, y + 4, name, "name end"))
        if low is not None and high is not None:
            parts.append(_rule(place(low), y, place(high), y, f"range {style}"))
        parts.append(f'<circle class="dot {style}" cx="{place(value):.1f}" cy="{y:.1f}" r="5"/>')
        span = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
        parts.append(_text(WIDTH - 180, y + 4, f"{value:+.4f}{span}{unit}", "tick"))
    return _svg(parts, height, title)


def bars(rows: Mapping[str, Interval], title: str) -> str:
    """One bar from 0 to 1 for each share, with its interval.

    Raises:
        GateError: there is no row.
    """
    if not rows:
        raise GateError(f"chart “{title}”: nothing to draw")
    left, height = 170, TOP + ROW * len(rows) + BOTTOM
    place = _scale(0.0, 1.0, left, WIDTH - 190)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    parts = [_rule(place(tick), TOP, place(tick), height - BOTTOM, "grid") for tick in ticks]
    parts += [_text(place(tick), height - 10, f"{tick:g}", "tick middle") for tick in ticks]
    for index, (name, (value, low, high)) in enumerate(rows.items()):
        y = TOP + ROW * index + 5
        width = max(place(value) - left, 0.5)
        parts.append(_text(left - 12, y + 13, name, "name end"))
        parts.append(f'<rect class="bar" x="{left}" y="{y}" width="{width:.1f}" height="{ROW - 10}" rx="2"/>')
        span = ""
        if low is not None and high is not None:
            parts.append(_rule(place(low), y + 9, place(high), y + 9, "whisker"))
            span = f" [{low:.3f}, {high:.3f}]"
        parts.append(_text(WIDTH - 180, y + 13, f"{value:.3f}{span}", "tick"))
    return _svg(parts, height, title)


def cost_chart(points: Mapping[str, tuple[float, float, float | None, float | None]], title: str) -> str:
    """Gain with its interval (y) against seconds of learning (x, logarithmic; a cost of 0 stands at the left edge).

    Args:
        points: by cadence: cost in seconds, gain, low, high.

    Raises:
        GateError: there is no point.
    """
    if not points:
        raise GateError(f"chart “{title}”: nothing to draw")
    height = 300
    costs = [cost for cost, *_ in points.values() if cost > 0] or [1.0]
    marks = log_ticks(min(costs), max(costs))
    place_x = _scale(math.log10(marks[0]), math.log10(marks[-1]), LEFT + 70, WIDTH - RIGHT)
    values = [value for _, *row in points.values() for value in row if value is not None]
    ticks = nice_ticks(min(0.0, *values), max(0.0, *values))
    place_y = _scale(ticks[0], ticks[-1], height - BOTTOM - 12, TOP)
    parts = [_grid_y(ticks, place_y), _rule(LEFT, place_y(0), WIDTH - RIGHT, place_y(0), "zero")]
    for mark in marks:
        x = place_x(math.log10(mark))
        parts.append(_rule(x, TOP, x, height - BOTTOM - 12, "grid"))
        parts.append(_text(x, height - 24, f"{mark:,g} s", "tick middle"))
    parts.append(
        _text((LEFT + WIDTH - RIGHT) / 2, height - 6, "seconds of learning over the whole stream", "tick middle")
    )
    for index, (name, (cost, value, low, high)) in enumerate(points.items()):
        x = place_x(math.log10(cost)) if cost > 0 else LEFT + 20
        if low is not None and high is not None:
            parts.append(_rule(x, place_y(low), x, place_y(high), f"range s{index % SERIES}"))
        parts.append(f'<circle class="dot s{index % SERIES}" cx="{x:.1f}" cy="{place_y(value):.1f}" r="5"/>')
        parts.append(_text(x + 10, place_y(value) - 6, name, f"label s{index % SERIES}"))
    return _svg(parts, height, title)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose [low, high]; powers of ten alone where there would be many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    for factors in ((1, 2, 5), (1,)):
        every = [factor * 10.0**power for power in powers for factor in factors]
        first = max(index for index, mark in enumerate(every) if mark <= low * (1 + 1e-9))
        last = min(index for index, mark in enumerate(every) if mark >= high * (1 - 1e-9) and index > first)
        if last - first <= MAX_LOG_TICKS:
            break
    return every[first : last + 1]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose [low, high], evenly apart."""
    span = high - low
    if span <= max(1e-9 * abs(low), 1e-9 * abs(high), 1e-9):
        span = abs(high) if abs(high) > 1e-9 else 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(step * index, 12) for index in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _grid_y(ticks: Sequence[float], place_y: Callable[[float], float]) -> str:
    lines = [_rule(LEFT, place_y(tick), WIDTH - RIGHT, place_y(tick), "grid") for tick in ticks]
    return "\n".join(lines + [_text(LEFT - 8, place_y(tick) + 4, _tick(tick, ticks), "tick end") for tick in ticks])


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = abs(ticks[1] - ticks[0])
    digits = max(
        0, min(6, -math.floor(math.log10(step)) + (0 if math.isclose(step, 10 ** round(math.log10(step))) else 1))
    )
    text = f"{value:.{digits}f}"
    return text if float(text) else "0"


def _time_axis(first: float, last: float, place_x: Callable[[float], float], height: float) -> str:
    form = "%Y-%m-%d" if last - first > 4 * 86400 else "%d %b %H:%M"
    parts = []
    for index in range(5):
        at_s = first + (last - first) * index / 4
        text = datetime.fromtimestamp(at_s, UTC).strftime(form)
        parts.append(_text(place_x(at_s), height - 8, text, "tick middle"))
    return "\n".join(parts)


def _step_axis(first: float, last: float, place_x: Callable[[float], float], height: float) -> str:
    steps = dict.fromkeys(round(first + (last - first) * index / 4) for index in range(5))
    return "\n".join(_text(place_x(step), height - 8, f"step {step}", "tick middle") for step in steps)


def _apart(labels: list[tuple[float, str, str]], gap: float, bottom: float) -> list[tuple[float, str, str]]:
    """Labels at their line's end, moved so that none covers another."""
    placed: list[tuple[float, str, str]] = []
    for y, style, text in sorted(labels):
        placed.append((max(y, placed[-1][0] + gap) if placed else max(y, TOP + 4), style, text))
    over = placed[-1][0] - bottom if placed else 0.0
    if over > 0:
        limit = bottom
        for index in range(len(placed) - 1, -1, -1):
            y = min(placed[index][0], limit)
            placed[index] = (y, *placed[index][1:])
            limit = y - gap
    return placed
