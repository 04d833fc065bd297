"""Settings, state database and registry, opened for one command."""

import getpass
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from penstock.data.state import State
    from penstock.registry.store import Registry
    from penstock.registry.tokens import Caller, Permission
    from penstock.settings import Settings


class Opened(NamedTuple):
    """What most commands work on."""

    settings: "Settings"
    state: "State"
    registry: "Registry"


def load() -> "Settings":
    """The settings of this folder and environment.

    Raises:
        SettingsError: params.yaml or an override cannot be used.
    """
    from penstock.settings import load_settings

    return load_settings()


def open_state_only() -> "tuple[Settings, State]":
    """Settings and the state database, its tables made.

    Raises:
        SettingsError, StateError: they cannot be used.
    """
    from penstock.data.state import open_state

    settings = load()
    return settings, open_state(settings.state.url)


def open_all() -> Opened:
    """Settings, state database and registry; MLflow takes some seconds to import, which a terminal is told.

    Raises:
        SettingsError, StateError, RegistryError: they cannot be used.
    """
    from penstock.cli.screen import working
    from penstock.registry.store import open_registry

    settings, state = open_state_only()
    registry = open_registry(settings, state)
    with working("opening the registry", piped=False):
        registry.backend.aliases()
    return Opened(settings, state, registry)


class Signed(NamedTuple):
    """Who gives an order, and the token it came with."""

    name: str
    caller: "Caller | None"


def signed(state: "State", actor: str | None) -> Signed:
    """Who gives this order: --actor, else whose token is in PENSTOCK_TOKEN, else the account.

    Raises:
        AccessError: the token is not known, or nobody can be named.
    """
    from datetime import UTC, datetime

    from penstock.errors import AccessError
    from penstock.registry.approvals import note_refusal
    from penstock.registry.tokens import VARIABLE, read_keys

    token, caller = os.environ.get(VARIABLE), None
    if token:
        caller = read_keys(state).caller(token)
        if caller is None:
            error = AccessError(f"the token in {VARIABLE} is not known, or was revoked; ask an admin for one")
            note_refusal(state, actor or "-", "call", "/command-line", error, datetime.now(UTC))
            raise error
    name = actor if actor is not None or caller is None else caller.name
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError) as fault:
            raise AccessError("this account has no name; say who decides with --actor NAME") from fault
    return Signed(name, caller)


def entitled(state: "State", actor: str | None, permission: "Permission", action: str, subject: str) -> str:
    """The name of who gives an order that not everybody may give.

    Raises:
        AccessError: as `signed`; or there are tokens, and none that allows it came.
    """
    from datetime import UTC, datetime

    from penstock.registry.permission import signed_by

    name, caller = signed(state, actor)
    return signed_by(state, permission, action, subject, name, caller, datetime.now(UTC))
