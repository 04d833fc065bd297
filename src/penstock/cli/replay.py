"""replay: traffic for a running service, so that the loop can be watched."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from penstock.cli.answer import FAILED, INTERRUPTED, Answer, Output, command
from penstock.cli.data import FOLDER
from penstock.cli.opened import load
from penstock.cli.screen import Screen, progress
from penstock.errors import PenstockError

if TYPE_CHECKING:
    import httpx

    from penstock.pipeline.replay import Played

DEFAULT_RATE = 5.0
ASKED, NOT_FOUND = 5, 404


@command(
    "replay",
    click.option("--data", "folder", type=FOLDER, help="Dataset folder; data.dir where it is left out."),
    click.option("--rate", type=click.FloatRange(0, 1000, min_open=True), help="Visits a second; 5 if left out."),
    click.option("--speed", type=click.FloatRange(0, min_open=True), help="Instead: times faster than the log."),
    click.option("--visits", "limit", type=click.IntRange(1), help="Stop after so many."),
    click.option("--clicks", type=click.Choice(["simulated", "log"]), default="simulated", show_default=True,
                 help="Who clicks: a visitor simulated from the log's tastes, on what the service shows; or the log."),
    click.option("--address", help="Of the service; service.host and service.port where it is left out."),
)  # fmt: skip
def replay(
    output: Output,
    folder: Path | None,
    rate: float | None,
    speed: float | None,
    limit: int | None,
    clicks: str,
    address: str | None,
) -> Answer:
    """Drive a running service with the traffic of a log, so that the loop can be seen live.

    Each visit asks for recommendations and sends the events that follow; they are real events, and the next round
    learns from them. Ctrl-C ends it with what was sent so far.
    """
    import httpx

    from penstock.data.dataset import read_dataset
    from penstock.pipeline.replay import Player, Tastes, paced, visits
    from penstock.registry.tokens import VARIABLE

    if rate is not None and speed is not None:
        raise click.UsageError("--rate and --speed both say how fast; give one")
    settings = load()
    data = read_dataset(folder or settings.data.dir, settings.data.max_text_chars)
    found = visits(data.events)[: limit or None]
    address = address or f"{settings.service.host}:{settings.service.port}"
    address = address if "://" in address else f"http://{address}"
    token = os.environ.get(VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    interrupted = False
    with httpx.Client(base_url=address, timeout=10, headers=headers) as client, progress() as advance:
        _need_service(client, address)
        if clicks == "log":
            _need_known_items(client, data.events["item_id"].unique(maintain_order=True).to_list())
        tastes = Tastes(data.events, data.catalogue, settings.seed) if clicks == "simulated" else None
        player = Player(client, tastes)
        try:
            for number, visit in enumerate(paced(found, rate or (None if speed else DEFAULT_RATE), speed), 1):
                player.play(visit)
                advance("visits", number, len(found), _live(player.played))
        except KeyboardInterrupt:
            interrupted = True
    answer = _summary(player.played, interrupted)
    code = INTERRUPTED if interrupted else FAILED if player.played.failures else 0
    return Answer(answer, lambda screen: _show(screen, answer), code)


def _need_service(client: "httpx.Client", address: str) -> None:
    import httpx

    try:
        ready = client.get("/readyz")
    except httpx.HTTPError as error:
        raise PenstockError(
            f"no service answers at {address} ({type(error).__name__}); start one with `penstock serve` or "
            "`penstock up`, or name another with --address"
        ) from error
    if not ready.is_success:
        raise PenstockError(f"the service at {address} is not ready: {ready.text[:200]}; promote a version first")


def _need_known_items(client: "httpx.Client", items: list[str]) -> None:
    """A log of other items than the service has would fill the journal with events that nobody can learn from."""
    asked = items[:: -(-len(items) // ASKED)]
    found = [client.get(f"/v1/items/{quote(item, safe='')}/similar", params={"k": 1}).status_code for item in asked]
    if set(found) == {NOT_FOUND}:
        raise PenstockError(
            f"the service knows none of {len(asked)} items of this log, {asked[0]!a} for one, so nothing could be "
            "learned from its clicks; replay the log that the service learned from, or --clicks simulated"
        )


def _live(played: "Played") -> str:
    p50, p99 = played.quantile_ms(0.5), played.quantile_ms(0.99)
    times = "" if p50 is None or p99 is None else f"{p50:.0f}/{p99:.0f} ms, "
    failed = f", {played.failures.total()} failed" if played.failures else ""
    return f"{times}{_versions(played)}, {played.clicks} clicks{failed}"


def _versions(played: "Played") -> str:
    return " ".join(f"v{version}: {count}" for version, count in played.versions.items()) or "no answer yet"


def _summary(played: "Played", interrupted: bool) -> dict[str, Any]:
    return {
        "interrupted": interrupted,
        "answers": played.asked,
        "versions": dict(played.versions),
        "latency_ms": {"p50": played.quantile_ms(0.5), "p99": played.quantile_ms(0.99)},
        "clicks": played.clicks,
        "events_accepted": played.accepted,
        "events_rejected": played.rejected,
        "first_rejection": played.first_reason,
        "failures": dict(played.failures),
    }


def _show(screen: Screen, data: dict[str, Any]) -> None:
    p50, p99 = data["latency_ms"]["p50"], data["latency_ms"]["p99"]
    screen.facts(
        {
            "answers": data["answers"],
            "by version": ", ".join(f"version {name}: {count}" for name, count in data["versions"].items()) or None,
            "latency": None if p50 is None else f"{p50:.1f} ms median, {p99:.1f} ms p99 (of the last 2,000)",
            "clicks": data["clicks"],
            "events": f"{data['events_accepted']} accepted, {data['events_rejected']} rejected",
            "first rejection": data["first_rejection"],
            "failures": ", ".join(f"{name}: {count}" for name, count in data["failures"].items()) or "none",
        }
    )
    if data["interrupted"]:
        screen.line("stopped from the keyboard; what was accepted stays in the journal")


COMMANDS = (replay,)
