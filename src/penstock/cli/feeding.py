"""feed, and what sources brought that is no event: refused list and refused retry."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.answer import FAILED, INTERRUPTED, Answer, Output, command
from penstock.cli.interrupts import interrupts
from penstock.cli.opened import open_state_only
from penstock.cli.screen import Screen, progress

if TYPE_CHECKING:
    from penstock.data.sources.feed import Fed

SHOWN_CHARS = 60


@command(
    "feed",
    click.argument("address"),
    click.option("--once", is_flag=True, help="Stop when nothing more comes, instead of waiting for it."),
)
def feed(output: Output, address: str, once: bool) -> Answer:
    """Bring events from files, Redis or Kafka into the journal until Ctrl-C.

    ADDRESS is files:FOLDER, files:s3://BUCKET/FOLDER, redis://HOST:PORT/DB?stream=NAME or kafka://HOST:PORT/TOPIC. What
    is read is on the disk before it is acknowledged, so it may be stopped and started at any time. What is no event is
    kept, see `penstock refused`.
    """
    from penstock.data.journal import Journal
    from penstock.data.sources import open_source
    from penstock.data.sources.feed import Feed
    from penstock.data.sources.ledger import count_refused

    settings, state = open_state_only()
    journal = Journal(state, settings.data)
    sources = settings.sources
    feeding = Feed(lambda: open_source(address, sources), journal, sources.batch_rows, sources.wait_s)
    with progress() as advance:

        def told(total: "Fed") -> None:
            advance("messages", total.read, 0)

        with interrupts() as noted:
            try:
                (feeding.drain if once else feeding.follow)(told, stopped=lambda: bool(noted))
            except KeyboardInterrupt:
                pass  # it is in `noted`
            finally:
                feeding.source.close()
    code = INTERRUPTED if noted else 0
    data: dict[str, Any] = {"source": feeding.source.name, **asdict(feeding.total)}
    data |= {"stopped": code == INTERRUPTED, "refused_held": count_refused(state), "pending": journal.pending()}
    return Answer(data, lambda screen: screen.facts(data), code or (FAILED if feeding.total.refused else 0))


@click.group("refused")
def refused() -> None:
    """Messages of sources that are no events: look at them, and try them again after a correction."""


@command("list", click.option("--limit", type=click.IntRange(1), default=100, show_default=True))
def list_(output: Output, limit: int) -> Answer:
    """Held messages with why each is no event, oldest first."""
    from penstock.data.sources.ledger import count_refused, list_refused

    _, state = open_state_only()
    held = [asdict(one) | {"value": one.value.decode(errors="replace")} for one in list_refused(state, limit)]
    count = count_refused(state)

    def show(screen: Screen) -> None:
        rows = [[one["id"], one["source"], one["place"], one["reason"], one["value"][:SHOWN_CHARS]] for one in held]
        screen.table(["id", "source", "place", "reason", "message"], rows)
        screen.line(f"{len(rows)} of {count} messages")

    return Answer({"messages": held, "count": count}, show)


@command("retry")
def retry_(output: Output) -> Answer:
    """Try every held message again, after a correction of params.yaml or the code."""
    from penstock.data.journal import Journal
    from penstock.data.sources.feed import retry

    settings, state = open_state_only()
    done = retry(state, Journal(state, settings.data), datetime.now(UTC))
    data = {"tried": done.read, "accepted": done.accepted, "duplicates": done.duplicates, "held": done.refused}
    return Answer(data, lambda screen: screen.facts(data))


for _command in (list_, retry_):
    refused.add_command(_command)

COMMANDS = (feed, refused)
