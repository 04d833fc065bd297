"""Imports go downward only, as the contracts in pyproject.toml say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def printed(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_import_linter_finds_no_broken_contract() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 broken" in run.stdout


def test_the_command_line_starts_without_heavy_packages() -> None:
    """`penstock --help` must not pay seconds for packages that it does not use."""
    heavy = ("torch", "transformers", "prefect", "great_expectations", "mlflow", "plotly", "dvc", "pandas")
    probe = f"import sys, penstock.cli; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_scorer_starts_without_torch() -> None:
    """The service runs on tokenizers and onnxruntime alone."""
    probe = "import sys, penstock.inference.scorer; print('torch' in sys.modules or 'transformers' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "False"
