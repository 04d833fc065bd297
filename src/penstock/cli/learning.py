"""round, backtest and stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.answer import FAILED, Answer, Output, command
from penstock.cli.data import FOLDER
from penstock.cli.opened import load, open_state_only, signed
from penstock.cli.screen import Screen, progress, working

if TYPE_CHECKING:
    from penstock.data.state import State

STAGES = ("prepare", "validate", "train", "export", "evaluate")


@command(
    "round",
    click.option("--actor", help="Who asks for what comes of it, and so cannot approve it; left out: whose token is in "
                 "PENSTOCK_TOKEN, else the machine, as for a scheduled round."),
)  # fmt: skip
def round_(output: Output, actor: str | None) -> Answer:
    """Run one round now: close, validate, score, learn, gate, register.

    A refused challenger and a quarantined snapshot are results, not failures; the exit code is 0 then.
    """
    from penstock.data.journal import Journal
    from penstock.pipeline import online
    from penstock.registry.versions import REQUESTER

    settings, state = open_state_only()
    who = signed(state, actor or REQUESTER)
    with _stages_shown(state):
        result = online.run_round(settings, requester=who.caller.name if who.caller else who.name)
    if result is None:
        pending, needed = Journal(state, settings.data).pending(), settings.validation.min_rows
        reason = f"{pending} events pending; a snapshot needs {needed} whose window is over"
        data: dict[str, Any] = {"outcome": "skipped", "reason": reason, "pending": pending}
        return Answer(data, lambda screen: screen.facts(data))
    data = asdict(result)
    return Answer(data, lambda screen: _show_round(screen, data), FAILED if result.outcome == "failed" else 0)


@contextmanager
def _stages_shown(state: "State") -> Iterator[None]:
    """A bar of the round's stages, its length what the last round took, so that the time left means something."""
    from penstock.pipeline.stages import WATCHER
    from penstock.pipeline.upkeep import last_stages

    name, ends, total_s = "round, by the last one's seconds", dict[str, float](), 0.0
    for stage_name, seconds in last_stages(state).items():
        total_s += seconds
        ends[stage_name] = total_s
    total = max(1, round(total_s))
    with progress() as advance:
        advance(name, 0, total, "validate")

        def ended(stage: str) -> None:
            advance(name, min(total, round(ends.get(stage, 0.0))), total, f"{stage} done")

        token = WATCHER.set(ended)
        try:
            yield
        finally:
            WATCHER.reset(token)


def _show_round(screen: Screen, data: dict[str, Any]) -> None:
    screen.facts({name: data[name] for name in ("round_id", "outcome", "version", "reason", "bundle_digest")})
    if data["metrics"]:
        screen.table(["metric", "value"], [[name, value] for name, value in data["metrics"].items()])
    if data["stages_s"]:
        screen.table(["stage", "seconds"], [[name, value] for name, value in data["stages_s"].items()])


@command(
    "backtest",
    click.option("--data", "folder", type=FOLDER, required=True, help="Dataset folder."),
    click.option("--out", type=FOLDER, required=True, help="Folder for rankings, summary.json and the report."),
    click.option("--cadence", help="Update intervals, by commas: 15m, 1h, 1d, never; fresh: after each window."),
    click.option("--windows", type=click.IntRange(1),
                 help="Equal windows of scoring; without --cadence: fresh learns after each, never does not."),
    click.option("--warmup", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="Share of the log that is learned before scoring begins."),
    click.option("--baselines", "all_baselines", is_flag=True, help="Every baseline, not only the quick ones."),
    click.option("--restart", is_flag=True, help="Forget what OUT holds; without it, go on where it was left."),
)  # fmt: skip
def backtest(
    output: Output,
    folder: Path,
    out: Path,
    cadence: str | None,
    windows: int | None,
    warmup: float | None,
    all_baselines: bool,
    restart: bool,
) -> Answer:
    """Say what a fresher model would have brought on a log: score each window, then learn from it.

    Without --cadence and --windows, params.yaml's backtest section says which. A run that was stopped goes on when it
    is started again with the same arguments.
    """
    from penstock.data.dataset import dataset_task
    from penstock.evaluation.prequential import cadence_seconds

    changes: dict[str, Any] = {"windows": windows, "warmup": warmup}
    settings = load().override({f"backtest.{key}": value for key, value in changes.items() if value is not None})
    cadences = (
        settings.backtest.cadences
        if cadence is None
        else list(dict.fromkeys(name.strip() for name in cadence.split(",")))
    )
    if windows is not None and cadence is None:
        cadences = ["fresh", "never"]
    for name in cadences:
        if name not in ("fresh", "never"):
            cadence_seconds(name)
    if dataset_task(folder) == "classify":
        return _backtest_labels(folder, out, cadence, windows)
    from penstock.pipeline.backtest_baselines import DEFAULT_NAMES
    from penstock.pipeline.backtest_run import run_backtest

    baselines = None if all_baselines else DEFAULT_NAMES
    with progress() as advance:
        summary = run_backtest(folder, out, settings, cadences, advance, baselines, restart)
    return Answer(summary, lambda screen: _show_backtest(screen, summary, out))


def _backtest_labels(folder: Path, out: Path, cadence: str | None, windows: int | None) -> Answer:
    if cadence is not None:
        raise click.UsageError("--cadence is for rankings; labelled texts are learned window by window: --windows")
    from penstock.pipeline.backtest_classify import run_label_backtest

    with progress() as advance:
        summary = run_label_backtest(folder, out, load(), windows, advance)
    return Answer(summary, lambda screen: _show_labels(screen, summary, out))


def _show_labels(screen: Screen, summary: dict[str, Any], out: Path) -> None:
    from penstock.evaluation.label_report import freshness_sentence

    columns = ["accuracy", "mean_window_accuracy", "macro_f1", "log_loss"]
    rows = [[name, *(row[column] for column in columns)] for name, row in summary["methods"].items()]
    screen.table(["method", *columns], rows)
    screen.line(freshness_sentence(summary))
    screen.line(f"report: {out / 'report.html'}")


def _show_backtest(screen: Screen, summary: dict[str, Any], out: Path) -> None:
    from penstock.evaluation.comparison import METRICS
    from penstock.evaluation.words import gain_sentence, pays_sentences

    columns = list(METRICS.values())
    rows = [[name, *(row[column] for column in columns)] for name, row in summary["methods"].items()]
    screen.table(["method", *columns], rows)
    fresh, others = summary["fresh"], {"freshness": summary["stale"], "against_baseline": summary["best_baseline"]}
    for name, other in others.items():
        if fresh and other:
            screen.line(gain_sentence(summary[name], fresh, other, summary["confidence"]))
    for line in pays_sentences(summary["cadences"]):
        screen.line(line)
    screen.line(f"report: {out / 'report.html'}")


@command("stage", click.argument("name", type=click.Choice(STAGES)))
def stage(output: Output, name: str) -> Answer:
    """Run one stage of the batch pipeline, as dvc.yaml does."""
    from penstock.pipeline import batch

    run = {
        "prepare": batch.prepare,
        "validate": batch.validate,
        "train": batch.train,
        "export": batch.export,
        "evaluate": batch.evaluate,
    }[name]
    with working(f"stage {name}"):
        data = run(load())
    return Answer(
        data, lambda screen: screen.facts({key: value for key, value in data.items() if not isinstance(value, dict)})
    )


COMMANDS = (round_, backtest, stage)
