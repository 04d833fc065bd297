"""token: who may do what over HTTP.

Whoever runs these can write the state database, and so could do everything anyway; what they do is in the audit log.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.opened import open_state_only, signed
from penstock.cli.screen import Screen

ROLES = ("feeder", "viewer", "approver", "admin")
ACTOR = click.option("--actor", help="Who does this; left out: whose token is in PENSTOCK_TOKEN, else the account.")


@click.group("token")
def token() -> None:
    """Named tokens with a role; the first one switches them on."""


@command(
    "create",
    click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do."),
    click.option("--name", required=True, help="Whose it is; decisions are signed with this name."),
    ACTOR,
)
def create(output: Output, role: Any, name: str, actor: str | None) -> Answer:
    """Make a token and print it, this once.

    feeder: send events, ask for recommendations. viewer: look at everything, ask. approver: that, and decide.
    admin: everything, tokens and rollback too.
    """
    from penstock.registry.tokens import create_token

    _, state = open_state_only()
    made = create_token(state, name, role, signed(state, actor).name, datetime.now(UTC))

    def show(screen: Screen) -> None:
        screen.line(made)
        screen.line(f"{role} {name}; it is not shown again. Authorization: Bearer <token>, or PENSTOCK_TOKEN=<token>")

    return Answer({"token": made, "name": name, "role": role}, show)


@command("list")
def list_(output: Output) -> Answer:
    """Every token that was made, oldest first."""
    from penstock.registry.tokens import list_tokens

    found = list_tokens(open_state_only()[1])

    def show(screen: Screen) -> None:
        rows = [[one.name, one.role, one.created_at, one.created_by, one.revoked_at, one.revoked_by] for one in found]
        screen.table(["name", "role", "made (UTC)", "by", "revoked", "by"], rows)

    return Answer({"tokens": [asdict(one) for one in found]}, show)


@command("revoke", click.argument("name"), ACTOR)
def revoke(output: Output, name: str, actor: str | None) -> Answer:
    """End a token; services notice within a second."""
    from penstock.registry.tokens import revoke_token

    _, state = open_state_only()
    revoke_token(state, name, signed(state, actor).name, datetime.now(UTC))
    return Answer({"name": name, "revoked": True}, lambda screen: screen.line(f"the token of {name} is revoked"))


for _command in (create, list_, revoke):
    token.add_command(_command)

COMMANDS = (token,)
