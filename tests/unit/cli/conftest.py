"""A folder of its own for every test, and a command line that runs in it."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from penstock.cli import main
from penstock.cli.group import QUIET

PARAMS = Path(__file__).parents[3] / "params.yaml"
Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project folder with params.yaml, as the working folder; no override in the environment."""
    for name in list(os.environ):
        if name.startswith(("PENSTOCK", "MLFLOW")):
            monkeypatch.delenv(name)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    # MLflow keeps one engine per URI in a process, so the URI names the test's own file in full.
    monkeypatch.setenv("PENSTOCK__REGISTRY__TRACKING_URI", f"sqlite:///{tmp_path}/var/mlflow.db")
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(PARAMS, tmp_path / "params.yaml")
    level = logging.getLogger("penstock").level
    yield tmp_path
    logging.getLogger("penstock").setLevel(level)


@pytest.fixture
def run(place: Path) -> Run:
    """Run `penstock` with some words; anything but an exit is raised."""

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return invoke


@pytest.fixture
def answer(run: Run) -> Callable[..., dict[str, Any]]:
    """The object that a command prints under --json; the exit code must be the one asked for."""

    def invoke(*words: str, code: int = 0) -> dict[str, Any]:
        result = run(*words, "--json")
        assert result.exit_code == code, result.output
        found = json.loads(result.stdout)
        assert isinstance(found, dict)
        return found

    return invoke


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database after its migrations, which take seconds: made once, by the command line as a module."""
    root = tmp_path_factory.mktemp("migrated")
    shutil.copyfile(PARAMS, root / "params.yaml")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PENSTOCK"))}
    environment["PENSTOCK__REGISTRY__NAME"] = "template"
    command = [sys.executable, "-m", "penstock.cli", "versions", "--json"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"versions": []}
    return root / "var" / "mlflow.db"


@pytest.fixture
def registered(place: Path, empty_mlflow: Path) -> Path:
    """The working folder, with an MLflow database that needs no migration."""
    (place / "var").mkdir()
    shutil.copyfile(empty_mlflow, place / "var" / "mlflow.db")
    return place
