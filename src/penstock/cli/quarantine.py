"""quarantine list, show, fix, replay and waive."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.decisions import ACTOR, REASON
from penstock.cli.opened import entitled, open_state_only
from penstock.cli.screen import Screen
from penstock.errors import StateError

if TYPE_CHECKING:
    from penstock.data.state import State
    from penstock.settings import Settings

SAMPLES = 3
"""Rows shown for each reason."""


@click.group("quarantine")
def quarantine() -> None:
    """What failed validation: look at it, and send it back after a fix."""


STATUSES = ("held", "replayed", "waived")
SNAPSHOT = click.option("--snapshot", help="Only entries of this snapshot.")


@command(
    "list",
    click.option("--status", type=click.Choice([*STATUSES, "all"]), default="held", show_default=True),
    SNAPSHOT,
)
def list_(output: Output, status: str, snapshot: str | None) -> Answer:
    """Entries with their reasons, oldest first."""
    from penstock.data.quarantine import list_quarantine

    _, state = open_state_only()
    wanted: Any = None if status == "all" else status
    entries = [asdict(one) for one in list_quarantine(state, wanted, snapshot)]

    def show(screen: Screen) -> None:
        rows = [
            [
                one["id"],
                one["snapshot_id"],
                one["event_id"] or "whole snapshot",
                one["status"],
                "; ".join(one["reasons"]),
            ]
            for one in entries
        ]
        screen.table(["id", "snapshot", "event", "status", "reasons"], rows)
        screen.line(f"{len(entries)} entries")

    return Answer({"entries": entries, "count": len(entries)}, show)


@command("show", click.argument("which"))
def show(output: Output, which: str) -> Answer:
    """One entry with its event, by its number; or all of a snapshot by its id: each reason with sample rows.

    Of a refused snapshot, these are the rows that break a rule by the settings and the catalogue as they are now.
    """
    from penstock.data.quarantine import list_quarantine

    settings, state = open_state_only()
    if not which.isdigit():
        return _show_snapshot(settings, state, which)
    found = [one for one in list_quarantine(state, None) if one.id == int(which)]
    if not found:
        raise StateError(f"quarantine has no entry {which}; `penstock quarantine list --status all` shows all")
    data = asdict(found[0])
    flat = {name: value for name, value in data.items() if name not in ("event", "reasons")}
    facts = flat | {"reasons": "; ".join(data["reasons"])} | {f"event.{k}": v for k, v in (data["event"] or {}).items()}
    return Answer(data, lambda screen: screen.facts(facts))


def _show_snapshot(settings: "Settings", state: "State", snapshot_id: str) -> Answer:
    from penstock.data.quarantine import by_rule, list_quarantine
    from penstock.pipeline.refused_rows import broken_now

    entries = list_quarantine(state, None, snapshot_id)
    if not entries:
        raise StateError(f"quarantine holds nothing of snapshot {snapshot_id!r}; `penstock quarantine list` shows all")
    whole = [reason for one in entries if one.event is None for reason in one.reasons]
    for one in entries:
        if one.event is None and one.status == "held":
            entries = entries + broken_now(settings, state, one)
    rules = by_rule(entries, SAMPLES)

    def tell(screen: Screen) -> None:
        for reason in whole:
            screen.line(f"refused: {reason}")
        rows = [
            [rule.name, rule.rows, one.id, one.event_id, found, _brief(one.event)]
            for rule in rules
            for one, found in rule.samples
        ]
        if not rules:
            screen.line("no row breaks a rule by itself")
            return
        screen.table(["rule", "rows", "entry", "event", "reason", "row"], rows)

    data = {
        "snapshot_id": snapshot_id,
        "refused": whole,
        "rules": [
            {"rule": rule.name, "rows": rule.rows, "samples": [asdict(one) for one, _ in rule.samples]}
            for rule in rules
        ],
    }
    return Answer(data, tell)


def _brief(event: dict[str, Any] | None) -> str:
    given = {name: value for name, value in (event or {}).items() if value is not None and name != "event_id"}
    return " ".join(f"{name}={str(value)[:40]}" for name, value in given.items())


NUMBERS = click.argument("numbers", type=int, nargs=-1)


def _chosen(state: "State", numbers: tuple[int, ...], snapshot: str | None) -> list[int]:
    from penstock.data.quarantine import list_quarantine

    if bool(numbers) == bool(snapshot):
        raise click.UsageError("name entries by their numbers, or all that is held of one snapshot with --snapshot")
    return list(numbers) or [one.id for one in list_quarantine(state, "held", snapshot)]


def _settled(status: str, entries: int, released: int, **more: int) -> Answer:
    data = {"status": status, "entries": entries, "released": released, **more}
    return Answer(data, lambda screen: screen.line(f"{entries} entries {status}, {released} events pending again"))


@command("replay", NUMBERS, SNAPSHOT, REASON, ACTOR)
def replay_(output: Output, numbers: tuple[int, ...], snapshot: str | None, reason: str, actor: str | None) -> Answer:
    """Make entries pending again, after a fix elsewhere; the next snapshot takes them."""
    from penstock.pipeline.settling import By, replay

    _, state = open_state_only()
    who = entitled(state, actor, "decide", "replay", "quarantine")
    done = replay(state, _chosen(state, numbers, snapshot), By(who, reason))
    return _settled("replayed", done.entries, done.released)


@command("waive", NUMBERS, SNAPSHOT, REASON, ACTOR)
def waive_(output: Output, numbers: tuple[int, ...], snapshot: str | None, reason: str, actor: str | None) -> Answer:
    """Settle entries without learning from them; a refused snapshot is let through as it is."""
    from penstock.pipeline.settling import By, waive

    _, state = open_state_only()
    who = entitled(state, actor, "decide", "waive", "quarantine")
    return _settled("waived", waive(state, _chosen(state, numbers, snapshot), By(who, reason)), 0)


def _maps(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> list[tuple[str, str, str]]:
    found = []
    for text in texts:
        field, colon, rest = text.partition(":")
        old, equal, new = rest.partition("=")
        if not (field and colon and old and equal):
            raise click.BadParameter(f"{text!r}, expected FIELD:OLD=NEW, for instance kind:clik=click")
        found.append((field, old, new))
    return found


@command(
    "fix",
    NUMBERS,
    SNAPSHOT,
    click.option("--map", "maps", multiple=True, callback=_maps, metavar="FIELD:OLD=NEW",
                 help="Where FIELD holds OLD it becomes NEW; * stands for any value, nothing for none. Repeat it."),
    click.option("--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="Corrected rows: Parquet, CSV or JSON lines with event_id and the columns to replace."),
    REASON,
    ACTOR,
)  # fmt: skip
def fix_(
    output: Output,
    numbers: tuple[int, ...],
    snapshot: str | None,
    maps: list[tuple[str, str, str]],
    file: Path | None,
    reason: str,
    actor: str | None,
) -> Answer:
    """Correct held events and make those that changed pending again."""
    from penstock.data.corrections import ValueMap, from_table, mapping, read_corrected
    from penstock.data.tables import file_sha256
    from penstock.pipeline.settling import By, fix

    if bool(maps) == bool(file):
        raise click.UsageError("say what to correct: either --map, or --file")
    settings, state = open_state_only()
    who = entitled(state, actor, "decide", "fix", "quarantine")
    ids = _chosen(state, numbers, snapshot)
    if file is not None:
        correction, how = from_table(read_corrected(file), str(file)), {"file_sha256": file_sha256(file)}
    else:
        correction = mapping([ValueMap(*one) for one in maps])
        how = {"map": ", ".join(f"{field}:{old}={new}" for field, old, new in maps)}
    done = fix(state, settings.data, ids, correction, how, By(who, reason))
    return _settled("fixed", done.entries, done.released, changed=done.changed)


for _command in (list_, show, fix_, replay_, waive_):
    quarantine.add_command(_command)

COMMANDS = (quarantine,)
