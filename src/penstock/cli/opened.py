"""Settings, state database and registry, opened for one command."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from penstock.data.state import State
    from penstock.registry.store import Registry
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
    """Settings, state database and registry; MLflow is opened when it is first asked.

    Raises:
        SettingsError, StateError: they cannot be used.
    """
    from penstock.registry.store import open_registry

    settings, state = open_state_only()
    return Opened(settings, state, open_registry(settings, state))
