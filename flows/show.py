"""How the demo prints: numbered steps with their seconds, tables, verdicts."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from penstock.pipeline.compare import WindowComparison
from penstock.records import GateReport, RoundResult

WIDTH = 120
OUTCOME_STYLE = {
    "promoted": "green",
    "waiting": "yellow",
    "refused": "red",
    "quarantined": "red",
    "failed": "bold red",
    "skipped": "dim",
}


class Show:
    """One narrator for the whole demo.

    Args:
        steps: how many steps there will be.
        console: where to print; a recording console in the tests.
    """

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self.console = console or _console()
        self.steps = steps
        self.started_s = time.monotonic()
        self.count = 0
        self.bars = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered headline, and the seconds it took once it is over."""
        self.count += 1
        self.console.print(f"\n[bold]{self.count}/{self.steps}  {title}[/]")
        began_s = time.monotonic()
        yield
        self.console.print(f"[dim]{time.monotonic() - began_s:.1f} s[/]", justify="right")

    def line(self, text: str) -> None:
        """One line under the current step."""
        self.console.print(f"  {text}")

    @contextmanager
    def working(self, label: str) -> Iterator[None]:
        """A bar that moves while something runs; nothing where a bar is shown already."""
        if self.bars:
            yield
            return
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=32), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(label, total=None)
            yield

    @contextmanager
    def bar(self, label: str, total: int) -> "Iterator[Progress]":
        """A progress bar; call `progress.advance(progress.task_ids[0])`."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            progress.add_task(label, total=total)
            self.bars += 1
            try:
                yield progress
            finally:
                self.bars -= 1

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[str] = ()
    ) -> None:
        """A table; columns named in `numbers` are right-aligned."""
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, str) else _cell(cell) for cell in row))
        self.console.print(table)

    def gates(self, report: GateReport) -> None:
        """Every gate's verdict with the observed value, its interval and the threshold."""
        rows = [
            (
                "[green]pass[/]" if gate.passed else "[bold red]refused[/]",
                gate.name if gate.slice == "all" else f"{gate.name}, {escape(gate.slice)}",
                gate.observed,
                _interval(gate.low, gate.high),
                f"{gate.comparison} {gate.threshold:g}",
            )
            for gate in report.gates
        ]
        self.table("", ("verdict", "gate", "observed", "interval", "threshold"), rows, numbers=("observed",))
        stated = [str(one["slice"]) for one in report.extra.get("not_judged", [])]
        if stated:
            self.line(f"[dim]too few requests to judge, so neither passed nor refused: {escape(', '.join(stated))}[/]")

    def before_and_after(self, before: Sequence[str], after: Sequence[str]) -> None:
        """Two top tens side by side; what is new or moved up is marked."""
        place = {title: rank for rank, title in enumerate(before)}
        rows: list[tuple[object, ...]] = []
        for rank, title in enumerate(after):
            old = place.get(title)
            if old is None:
                mark = "[green]new[/]"
            elif old == rank:
                mark = ""
            else:
                mark = f"[green]▲{old - rank}[/]" if old > rank else f"[dim]▼{rank - old}[/]"
            rows.append((rank + 1, escape(before[rank]) if rank < len(before) else "", escape(title), mark))
        self.table("", ("#", "before the clicks", "after the clicks", ""), rows, numbers=("#",))

    def compared(self, rows: Sequence[WindowComparison]) -> None:
        """NDCG@10 of fresh and stale, a line per round, with the share of the oracle's where the truth is known."""
        known = all(row.possible is not None for row in rows)
        table: list[tuple[object, ...]] = []
        for row in rows:
            line = (
                row.label,
                row.version,
                str(len(row.fresh_R)),
                row.fresh,
                row.stale,
                f"{row.fresh - row.stale:+.4f}",
            )
            share = (f"{row.fresh / row.possible:.0%} / {row.stale / row.possible:.0%}",) if row.possible else ()
            table.append((*line, *share) if known else line)
        numbers = ["requests", "fresh", "stale", "gain", *(["of the possible"] if known else [])]
        title = "NDCG@10 on each round's requests, before they were learned from"
        self.table(title, ["round", "champion", *numbers], table, numbers=numbers)

    def rounds(self, rounds: Sequence[tuple[str, RoundResult, int]]) -> None:
        """The summary: every round with what came of it and why."""
        rows = [
            (
                label,
                str(events),
                result.version or "",
                outcome(result.outcome),
                f"{sum(result.stages_s.values()):.1f}" if result.stages_s else "",
                escape(_short(result.reason)),
            )
            for label, result, events in rounds
        ]
        columns = ("round", "events", "version", "outcome", "seconds", "why")
        self.console.print()
        self.table("Summary", columns, rows, numbers=("events", "version", "seconds"))

    def failed(self, reason: str) -> None:
        """What went wrong, as the last line."""
        self.console.print(f"[bold red]The demo failed:[/] {escape(reason)}")

    def close(self, address: str) -> None:
        """The last lines: how long it took, and where to go on."""
        self.console.print(f"[bold green]The loop is closed[/] in {time.monotonic() - self.started_s:.0f} s.")
        self.console.print("[bold]make up[/] goes on from here: service, console and a round every few minutes, at")
        self.console.print(f"[bold]{address}[/]")


def _console() -> Console:
    """The terminal; wide enough for the tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def outcome(name: str) -> str:
    """A round's outcome in its colour."""
    return f"[{OUTCOME_STYLE.get(name, 'default')}]{name}[/]"


def _short(reason: str, limit: int = 70) -> str:
    return reason if len(reason) <= limit else reason[: limit - 1] + "…"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} … {high:.4f}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
