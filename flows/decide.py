"""Hand a decision to a suspended promotion run: `python -m flows.decide 7 approve --actor ann --reason "…"`.

With a token in PENSTOCK_TOKEN the decision is made here, signed by it, and the run is told; so the token stays here,
where Prefect would keep it in its database.
"""

import os
from datetime import UTC, datetime

import click

from flows.decision import Decision, params_of, resume
from penstock.cli.opened import signed
from penstock.data.state import open_state
from penstock.errors import PenstockError
from penstock.registry.store import open_registry
from penstock.registry.tokens import VARIABLE
from penstock.serving.decisions import Decisions
from penstock.settings import load_settings


@click.command()
@click.argument("version")
@click.argument("verdict", type=click.Choice(["approve", "reject"]))
@click.option("--actor", help="Who decides; left out: whose token is in PENSTOCK_TOKEN, else the account.")
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
def decide(version: str, verdict: str, actor: str | None, reason: str) -> None:
    """Resume the promotion run that waits for VERSION."""
    try:
        settings = load_settings(params_of(version))
        state = open_state(settings.state.url)
        name, caller = signed(state, actor)
        if VARIABLE in os.environ:
            decisions = Decisions(open_registry(settings, state), state)
            act = decisions.approve if verdict == "approve" else decisions.reject
            act(version, name, reason, datetime.now(UTC), caller)
        run = resume(version, Decision(approve=verdict == "approve", actor=name, reason=reason))
    except PenstockError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"version {version}: {verdict} handed to flow run {run}")


if __name__ == "__main__":
    decide()
