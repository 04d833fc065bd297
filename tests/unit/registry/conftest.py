"""A registry on files of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from registry_bench import ROOT, Bench, check_fake, settings_under

from penstock.data.state import open_state
from penstock.registry.store import Registry, open_registry
from penstock.settings import Settings

OPEN = """
import sys
from pathlib import Path
from penstock.data.state import open_state
from penstock.registry.store import open_registry
from penstock.settings import load_settings
settings = load_settings(Path(sys.argv[1]))
registry = open_registry(settings, open_state(settings.state.url), lambda folder: "")
assert registry.champion_pointer() is None and "mlflow" not in sys.modules
assert registry.versions() == []
"""


@pytest.fixture(scope="session")
def first_opening(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A registry opened where there was none, in a process of its own: its working folder, and what it printed.

    Done once, MLflow's migrations take seconds; the other tests begin with a copy of that database.
    """
    root = tmp_path_factory.mktemp("opened")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PENSTOCK"))}
    command = [sys.executable, "-W", "error", "-c", OPEN, str(ROOT / "params.yaml")]
    renamed = environment | {"PENSTOCK__REGISTRY__NAME": "template"}
    return root, subprocess.run(command, cwd=root, env=renamed, capture_output=True, text=True, check=False)


@pytest.fixture
def settings(tmp_path: Path, first_opening: tuple[Path, subprocess.CompletedProcess[str]]) -> Settings:
    """params.yaml with everything that is written placed under tmp_path."""
    shutil.copyfile(first_opening[0] / "var" / "mlflow.db", tmp_path / "mlflow.db")
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
