"""erase and rotate-user-key."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from penstock.cli.answer import FAILED, Answer, Output, command
from penstock.cli.decisions import ACTOR, REASON
from penstock.cli.opened import entitled, open_all, open_state_only
from penstock.cli.screen import Screen, working


@command("erase", click.argument("user"), REASON, ACTOR)
def erase(output: Output, user: str, reason: str, actor: str | None) -> Answer:
    """Erase a user and what was learned from them; ends with 1 while something of them is left."""
    from penstock.pipeline.erasure import erase_user

    settings, state, registry = open_all()
    who = entitled(state, actor, "administer", "erase", "-")  # a refusal is kept, the user's name is not
    with working("erasing, and searching all that is kept"):
        done = erase_user(settings, state, registry, user, who, reason)
    data = asdict(done)

    def show(screen: Screen) -> None:
        screen.facts(
            {
                "erasure": done.id,
                "events erased": done.rows.events,
                "quarantine entries erased": done.rows.quarantined,
                "snapshots written anew": ", ".join(done.rows.snapshots),
                "versions that learned from the user": ", ".join(done.learned_by),
                "rebuild": f"{len(done.relearn)} snapshots, from {done.start or 'the beginning'}",
                "files and folders removed": len(done.removed),
                "searched": ", ".join(done.searched),
            }
        )
        for path in done.rewritten:
            screen.line(f"{path} was written without the user: run `dvc commit --force` and `dvc push`")
        for url in done.not_searched:
            screen.line(f"not searched: {url}; remove the old objects there, with `dvc gc --cloud` where it is DVC's")
        if done.serving is not None:
            screen.line(f"version {done.serving} learned from the user and serves: let another serve, then erase again")
        if done.rows.events:
            screen.line(
                "a service that runs forgets the user within seconds; were they there just now, erase again: "
                "an answer of that moment holds their history"
            )
        for path in done.left:
            screen.line(f"left: {path}")
        if not done.left:
            screen.line("a search through all of it finds nothing of the user")

    return Answer(data, show, FAILED if done.left or done.serving else 0)


@command(
    "rotate-user-key",
    click.option("--drop-earlier", is_flag=True, help="Forget earlier keys: nobody is found by them again."),
    ACTOR,
)
def rotate(output: Output, drop_earlier: bool, actor: str | None) -> Answer:
    """Hash user ids under a new key from now on: everybody starts anew under another pseudonym.

    Also makes the first key where the events so far were taken under plain ids.
    """
    from penstock.data.pseudonyms import Pseudonyms
    from penstock.registry.audit import append

    settings, state = open_state_only()
    who = entitled(state, actor, "administer", "rotate-user-key", "-")
    path: Path = settings.data.user_key_file
    first = not path.exists()
    names = Pseudonyms(path)
    with state.write() as conn:
        append(conn, who, "rotate-user-key", str(path), {"drop_earlier": drop_earlier}, datetime.now(UTC))
        data = {"key_file": path, "keys": 1 if first else names.rotate(drop_earlier)}
    return Answer(data, lambda screen: screen.facts(data))


COMMANDS = (erase, rotate)
