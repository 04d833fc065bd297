"""simulate, import and ingest."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from penstock.cli.answer import FAILED, Answer, Output, command
from penstock.cli.opened import load, open_state_only
from penstock.cli.screen import Screen, progress, working
from penstock.errors import SchemaError

if TYPE_CHECKING:
    import polars as pl

KINDS = ("mind", "movielens", "online-retail", "labels", "table")
BATCH_ROWS = 20_000
SHOWN_REJECTIONS = 20
FOLDER = click.Path(file_okay=False, path_type=Path)


@command("simulate", click.option("--into", type=FOLDER, help="Folder to write; data.dir where it is left out."))
def simulate(output: Output, into: Path | None) -> Answer:
    """Write a seeded marketplace whose true click probabilities are known."""
    from penstock.data.simulate import TRUTH_FILE, simulate_and_write

    settings = load()
    folder = into or settings.data.dir
    with working(f"simulating {settings.simulate.days:g} days of {settings.simulate.items} items"):
        dataset = simulate_and_write(settings.simulate, settings.seed, folder)
    data = {
        "into": folder,
        "events": len(dataset.events),
        "items": len(dataset.catalogue),
        "users": dataset.events["user_id"].n_unique(),
        "seed": settings.seed,
        "truth": folder / TRUTH_FILE,
    }
    return Answer(data, lambda screen: screen.facts(data))


def _mapping(ctx: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in pairs:
        column, equal, field = pair.rpartition("=")
        if not (column and equal and field):
            raise click.BadParameter(f"{pair!r}, expected column=field, for instance CustomerID=user_id")
        if column in mapping:
            raise click.BadParameter(f"column {column!r} is mapped twice, to {mapping[column]} and {field}")
        mapping[column] = field
    return mapping


@command(
    "import",
    click.argument("kind", type=click.Choice(KINDS)),
    click.argument("source", type=click.Path(path_type=Path)),
    click.option("--into", type=FOLDER, required=True, help="Dataset folder to write."),
    click.option("--map", "mapping", multiple=True, callback=_mapping, metavar="COLUMN=FIELD",
                 help="For labels and table: which column holds which field. Repeat it."),
)  # fmt: skip
def import_(output: Output, kind: str, source: Path, into: Path, mapping: dict[str, str]) -> Answer:
    """Bring a log into penstock's format; every row of it is accounted for."""
    from penstock.data.importers import import_source
    from penstock.data.importers.reconciliation import advice

    with working(f"importing {source}"):
        done = import_source(kind, source, into, mapping)
    data = {"kind": kind, "into": into, "read": done.read, "kept": done.kept, "rejected": done.rejected}
    rows = [["read", done.read], ["kept", done.kept], *([f"rejected: {why}", n] for why, n in done.rejected.items())]
    told = advice(done.rejected)

    def show(screen: Screen) -> None:
        screen.table(["rows", "number"], rows, title=f"{kind} → {into}")
        if told is not None:
            screen.line(told)

    return Answer(data, show)


class Batch(NamedTuple):
    """Some events of a file and their 0-based rows in it; `broken`: rows that are no events, and why; `read`: rows so
    far, of `total`."""

    read: int
    events: "pl.DataFrame | list[dict[str, Any]]"
    rows: list[int]
    broken: list[tuple[int, str]]
    total: int


@command("ingest", click.argument("file", type=click.Path(dir_okay=False, path_type=Path)))
def ingest(output: Output, file: Path) -> Answer:
    """Put the events of a .parquet or .jsonl file into the journal; sending a file again changes nothing.

    Ends with 1 when an event was rejected; the others are accepted all the same.
    """
    from penstock.data.journal import Journal

    batches = _batches(file)
    settings, state = open_state_only()
    journal = Journal(state, settings.data)
    accepted = duplicates = 0
    rejected: list[dict[str, Any]] = []
    with progress() as advance:
        for batch in batches:
            done = journal.append(batch.events, datetime.now(UTC))
            accepted, duplicates = accepted + done.accepted, duplicates + done.duplicates
            rejected += [{"row": row, "event_id": None, "reason": why} for row, why in batch.broken]
            rejected += [{"row": batch.rows[at], "event_id": name, "reason": why} for at, name, why in done.rejected]
            advance("events", batch.read, batch.total)
    rejected.sort(key=lambda one: one["row"])
    data = {
        "file": file,
        "accepted": accepted,
        "duplicates": duplicates,
        "rejected": len(rejected),
        "rejections": rejected[:SHOWN_REJECTIONS],
        "pending": journal.pending(),
    }
    return Answer(data, lambda screen: _show_ingest(screen, data), FAILED if rejected else 0)


def _show_ingest(screen: Screen, data: dict[str, Any]) -> None:
    screen.facts({name: data[name] for name in ("accepted", "duplicates", "rejected", "pending")})
    if data["rejections"]:
        rows = [[one["row"], one["event_id"], one["reason"]] for one in data["rejections"]]
        screen.table(["row", "event", "reason"], rows, title=f"the first {len(rows)} of {data['rejected']} rejections")


def _batches(file: Path) -> Iterator[Batch]:
    """Batches of a file, which is opened now, so that a wrong name fails before anything else.

    Raises:
        SchemaError: another ending, or no whole Parquet file.
        OSError: it cannot be read.
    """
    if file.suffix in (".jsonl", ".ndjson"):
        with file.open("rb") as lines:
            total = sum(1 for _ in lines)
        return _json_batches(file, total)
    if file.suffix != ".parquet":
        raise SchemaError(f"{file} ends in {file.suffix or 'nothing'}, expected .parquet, .jsonl or .ndjson")
    from penstock.data.foreign import read_foreign

    return _table_batches(read_foreign(file.read_bytes(), str(file)))


def _table_batches(frame: "pl.DataFrame") -> Iterator[Batch]:
    # An empty table goes to the journal too, which says when a column is missing.
    for first in range(0, max(len(frame), 1), BATCH_ROWS):
        part = frame.slice(first, BATCH_ROWS)
        yield Batch(first + len(part), part, list(range(first, first + len(part))), [], len(frame))


def _json_batches(file: Path, total: int) -> Iterator[Batch]:
    with file.open("rb") as lines:
        for first in range(0, total, BATCH_ROWS):
            events: list[dict[str, Any]] = []
            rows: list[int] = []
            broken: list[tuple[int, str]] = []
            for row, line in enumerate(itertools.islice(lines, BATCH_ROWS), first):
                event = _event(line)
                if isinstance(event, dict):
                    events.append(event)
                    rows.append(row)
                elif event is not None:
                    broken.append((row, event))
            yield Batch(min(first + BATCH_ROWS, total), events, rows, broken, total)


def _event(line: bytes) -> dict[str, Any] | str | None:
    """The event of a line, why it is none, or None for an empty line."""
    if not line.strip():
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object in UTF-8 ({error}), found {line[:40]!a}; correct the line"
    return event if isinstance(event, dict) else f"JSON {type(event).__name__}, expected an object with fields"


COMMANDS = (simulate, import_, ingest)
