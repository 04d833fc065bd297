"""data of, data compact and data publish."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.opened import open_all, open_state_only
from penstock.cli.screen import Screen, progress


@click.group("data")
def data() -> None:
    """Snapshots: what a version learned from, fewer files, a copy elsewhere."""


@command(
    "of",
    click.argument("version"),
    click.option("--into", type=click.Path(file_okay=False, path_type=Path), required=True, help="An empty folder."),
    click.option("--from", "source", help="DVC remote or URL to fetch from what is not here any more."),
)
def of(output: Output, version: str, into: Path, source: str | None) -> Answer:
    """Restore the snapshots that VERSION learned from, each with its hash verified."""
    from penstock.data.publishing import open_place
    from penstock.pipeline.learned_data import data_of, restore, tree_md5

    _, state, registry = open_all()
    lineage = registry.version(version).lineage
    parts = data_of(state, lineage)
    with progress() as advance:
        rewritten = restore(parts, into, None if source is None else open_place(source), advance)
    manifests = [part.manifest for part in parts]
    facts: dict[str, Any] = {
        "version": version,
        "into": into,
        "data_md5": tree_md5(manifests),
        "snapshots": len(parts),
        "learned": sum(part.learned for part in parts),
        "rows": sum(one.rows for one in manifests),
        "excluded_rows": sum(len(part.excluded) for part in parts),
        "rewritten": rewritten,
    }

    def show(screen: Screen) -> None:
        screen.facts(facts | {"rewritten": ", ".join(rewritten) or None})

    return Answer(facts, show)


@command("compact")
def compact_(output: Output) -> Answer:
    """Move learned snapshots, but for the newest, into few large Parquet files; each keeps its hash."""
    from penstock.data.packs import compact
    from penstock.data.snapshot import list_snapshots
    from penstock.pipeline.ledger import round_lease

    settings, state = open_state_only()
    with round_lease(settings):
        learned = list_snapshots(state, "learned")
        old = learned[: max(0, len(learned) - settings.data.loose_snapshots)]
        done = compact(settings.state.home, old, settings.data.pack_rows)
    facts = {
        "packed_now": done.snapshots,
        "packs": done.packs,
        "mb_before": round(done.bytes_before / 1e6, 3),
        "mb_after": round(done.bytes_after / 1e6, 3),
    }
    return Answer(facts, lambda screen: screen.facts(facts))


@command("publish", click.argument("target", required=False))
def publish_(output: Output, target: str | None) -> Answer:
    """Send learned snapshots to a DVC remote (the default one) or a URL; each is read back and compared.

    Writes snapshots.dvc under state.home: `dvc pull` of that file brings all of them back.
    """
    from penstock.data.publishing import open_place, publish

    settings, state = open_state_only()
    place = open_place(target)
    done = publish(state, settings.state.home, place, datetime.now(UTC))
    facts = {
        "place": place.name,
        "sent": done.sent,
        "published": done.total,
        "data_md5": done.md5,
        "dvc_file": done.dvc_file,
    }
    return Answer(facts, lambda screen: screen.facts(facts))


for _command in (of, compact_, publish_):
    data.add_command(_command)

COMMANDS = (data,)
