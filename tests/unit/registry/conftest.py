"""A registry on files of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from registry_bench import Bench, check_fake, settings_under

from penstock.data.state import open_state
from penstock.registry.mlflow_backend import MlflowBackend
from penstock.registry.store import Registry, open_registry
from penstock.settings import Settings


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its migrations take seconds."""
    root = tmp_path_factory.mktemp("migrated")
    MlflowBackend(settings_under(root).override({"registry.name": "template"}).registry)
    return root / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    """params.yaml with everything that is written placed under tmp_path."""
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    return settings_under(tmp_path)


@pytest.fixture
def bench(tmp_path: Path, settings: Settings) -> Iterator[Bench]:
    """A registry under the manual policy."""
    state = open_state(settings.state.url)
    yield Bench(tmp_path, settings, state, open_registry(settings, state, check_fake))
    state.engine.dispose()


@pytest.fixture
def reopened(bench: Bench) -> Callable[[dict[str, object]], Registry]:
    """Another registry over the same files, with other settings."""
    return lambda changes: open_registry(bench.settings.override(changes), bench.state, check_fake)
