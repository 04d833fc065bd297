"""quarantine list, show, replay and waive."""

from dataclasses import asdict
from typing import Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.opened import open_state_only
from penstock.cli.screen import Screen
from penstock.errors import StateError


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


@command("show", click.argument("number", type=int))
def show(output: Output, number: int) -> Answer:
    """One entry with its event."""
    from penstock.data.quarantine import list_quarantine

    _, state = open_state_only()
    found = [one for one in list_quarantine(state, None) if one.id == number]
    if not found:
        raise StateError(f"quarantine has no entry {number}; `penstock quarantine list --status all` shows all")
    data = asdict(found[0])
    flat = {name: value for name, value in data.items() if name not in ("event", "reasons")}
    facts = flat | {"reasons": "; ".join(data["reasons"])} | {f"event.{k}": v for k, v in (data["event"] or {}).items()}
    return Answer(data, lambda screen: screen.facts(facts))


def _settle(numbers: tuple[int, ...], snapshot: str | None, how: str) -> Answer:
    from penstock.data.quarantine import list_quarantine, replay, waive

    if bool(numbers) == bool(snapshot):
        raise click.UsageError("name entries by their numbers, or all that is held of one snapshot with --snapshot")
    _, state = open_state_only()
    ids = list(numbers) or [one.id for one in list_quarantine(state, "held", snapshot)]
    released = 0
    if how == "replayed":
        done = replay(state, ids)
        entries, released = done.entries, done.released
    else:
        entries = waive(state, ids)
    data = {"status": how, "entries": entries, "released": released}
    return Answer(data, lambda screen: screen.line(f"{entries} entries {how}, {released} events pending again"))


NUMBERS = click.argument("numbers", type=int, nargs=-1)


@command("replay", NUMBERS, SNAPSHOT)
def replay_(output: Output, numbers: tuple[int, ...], snapshot: str | None) -> Answer:
    """Make entries pending again, after a fix; the next snapshot takes them."""
    return _settle(numbers, snapshot, "replayed")


@command("waive", NUMBERS, SNAPSHOT)
def waive_(output: Output, numbers: tuple[int, ...], snapshot: str | None) -> Answer:
    """Settle entries without learning from them; a refused snapshot is let through as it is."""
    return _settle(numbers, snapshot, "waived")


for _command in (list_, show, replay_, waive_):
    quarantine.add_command(_command)

COMMANDS = (quarantine,)
