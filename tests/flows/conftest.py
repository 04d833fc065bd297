"""Prefect's test harness, one for the session, and settings whose every file is in a folder of the test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from registry_bench import Bench, check_fake, settings_under

import flows
from penstock.data.state import open_state
from penstock.registry.mlflow_backend import MlflowBackend
from penstock.registry.store import open_registry

assert os.environ["DO_NOT_TRACK"], f"{flows.__name__} is imported first, because it silences Prefect"


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server on a database of its own, results in a folder of the session."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_LOGGING_LEVEL, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    storage = tmp_path_factory.mktemp("results")
    with (
        temporary_settings({PREFECT_LOCAL_STORAGE_PATH: storage, PREFECT_LOGGING_LEVEL: "CRITICAL"}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its migrations take seconds."""
    root = tmp_path_factory.mktemp("migrated")
    MlflowBackend(settings_under(root).override({"registry.name": "template"}).registry)
    return root / "mlflow.db"


@pytest.fixture
def bench(tmp_path: Path, migrated: Path) -> Iterator[Bench]:
    """A registry of cheap bundles under the manual policy."""
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    yield Bench(tmp_path, settings, state, open_registry(settings, state, check_fake))
    state.engine.dispose()


@pytest.fixture
def params(bench: Bench, tmp_path: Path) -> Path:
    """A params.yaml that says what `bench` says."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(bench.settings.model_dump(mode="json")))
    return path
