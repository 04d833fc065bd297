"""Hand a decision to a suspended promotion run: `python -m flows.decide 7 approve --actor ann --reason "…"`."""

import click

from flows.decision import Decision, resume
from penstock.errors import PenstockError


@click.command()
@click.argument("version")
@click.argument("verdict", type=click.Choice(["approve", "reject"]))
@click.option("--actor", required=True, help="Who decides.")
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
def decide(version: str, verdict: str, actor: str, reason: str) -> None:
    """Resume the promotion run that waits for VERSION."""
    try:
        run = resume(version, Decision(approve=verdict == "approve", actor=actor, reason=reason))
    except PenstockError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"version {version}: {verdict} handed to flow run {run}")


if __name__ == "__main__":
    decide()
