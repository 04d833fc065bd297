"""How a person reads an answer: facts, tables, and progress on stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

PIPED_WIDTH = 160
LINE_EVERY_S = 5.0
COLOURS = {
    "promoted": "green", "champion": "green", "passed": "green", "ok": "green",
    "waiting": "yellow", "challenger": "yellow", "warning": "yellow",
    "refused": "red", "rejected": "red", "quarantined": "red", "failed": "red", "missing": "red",
    "retired": "dim", "skipped": "dim",
}  # fmt: skip


class Screen:
    """stdout, for a person. Text is printed as it is: square brackets in a title are no markup."""

    def __init__(self) -> None:
        from rich.console import Console

        width = None if sys.stdout.isatty() else PIPED_WIDTH
        self.console = Console(file=sys.stdout, highlight=False, markup=False, width=width)

    def line(self, text: str = "") -> None:
        """One line."""
        self.console.print(text)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Names and values below each other; None is a dash."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for name, value in facts.items():
            grid.add_row(name, _cell(value))
        self.console.print(grid)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A table; columns that hold only numbers are right-aligned."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        heading = Text(title, "bold") if title else None
        table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for place, column in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
            table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.console.print(table)


class Advance(Protocol):
    """Says how far a named thing is; `note`: what else is to be seen of it."""

    def __call__(self, name: str, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def working(label: str, piped: bool = True) -> Iterator[None]:
    """Something that does not know how far it is: a moving bar with its seconds on a terminal, one line elsewhere.

    Args:
        piped: False: nothing elsewhere, for what takes a moment in many commands.
    """
    if not sys.stderr.isatty():
        if piped:
            print(f"{label} …", file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bars.add_task(label, total=None)
        yield


@contextmanager
def progress() -> Iterator[Advance]:
    """A function (name, done, total): one bar per name on a terminal, a line every few seconds elsewhere; on stderr.

    A total of 0 is not known.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", style="dim"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}
        left = TimeLeft()

        def advance(name: str, done: int, total: int, note: str = "") -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total or None, left="", note="")
            bars.update(tasks[name], completed=done, total=total, left=left.text(name, done, total), note=note)

        yield advance


class TimeLeft:
    """How long each named thing will take, by its pace since it was first heard of; what was done before is free."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[str, tuple[float, int]] = {}

    def text(self, name: str, done: int, total: int) -> str:
        """ "12/s, about 3 min left", or nothing where there is no pace yet or nothing left."""
        now_s = self._clock()
        started_s, already = self._first.setdefault(name, (now_s, done))
        if done <= already or done >= total:
            return ""
        pace = (done - already) / max(now_s - started_s, 1e-9)
        return f"{rate(pace)}, about {age((total - done) / pace)} left"


def rate(per_s: float) -> str:
    """How many a second, or a minute where there are few."""
    if per_s < 1:
        return f"{per_s * 60:.1f}/min"
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.1f}/s"


def _lines() -> Advance:
    last_s: dict[str, float] = {}
    left = TimeLeft()

    def advance(name: str, done: int, total: int, note: str = "") -> None:
        remaining = left.text(name, done, total)
        if name not in last_s or time.monotonic() - last_s[name] >= LINE_EVERY_S or 0 < total <= done:
            last_s[name] = time.monotonic()
            said = ", ".join(part for part in (remaining, note) if part)
            of = f"/{total}" if total else ""
            print(f"{name} {done}{of}{said and f', {said}'}", file=sys.stderr, flush=True)

    return advance


def _cell(value: object) -> Any:
    from rich.text import Text

    if value is None or value == "":
        return Text("–", "dim")
    if isinstance(value, float):
        return Text(f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}")
    text = str(value)
    return Text(text, COLOURS.get(text, ""))


def age(seconds: float | None) -> str | None:
    """Seconds as a person says them: 42 s, 12 min, 3.5 h, 2.0 d."""
    if seconds is None:
        return None
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if abs(seconds) < limit:
            return f"{seconds / length:.0f} {unit}" if unit != "h" else f"{seconds / length:.1f} h"
    return f"{seconds / 86_400:.1f} d"
