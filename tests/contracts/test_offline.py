"""Nothing is looked up on a network: name look-ups are hooked in a fresh process, and none may be seen.

Local names are let through: the flows' temporary Prefect server and the service listen on this machine.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HOOK = """
import json, socket, sys
seen = []
real = socket.getaddrinfo
LOCAL = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()}

def watched(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in LOCAL:
        seen.append(str(name))
        raise socket.gaierror(f"look-up of {name} in a test that allows none")
    return real(host, *args, **kwargs)

socket.getaddrinfo = watched
"""
REPORT = "\nimport time; time.sleep(0.2)\nprint(json.dumps(seen))\n"


def look_ups(program: str, *arguments: str) -> list[str]:
    """Run a program in a fresh process and return the names that it tried to resolve."""
    source = HOOK + textwrap.dedent(program) + REPORT
    run = subprocess.run(
        [sys.executable, "-c", source, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return list(json.loads(run.stdout.splitlines()[-1]))


def test_the_hook_sees_a_look_up() -> None:
    program = """
    try:
        socket.create_connection(("penstock.invalid", 80), timeout=1)
    except OSError:
        pass
    """
    assert look_ups(program) == ["penstock.invalid"]


@pytest.mark.parametrize("module", ["prefect", "great_expectations", "mlflow", "dvc.repo", "transformers"])
def test_importing_a_framework_looks_nothing_up(module: str) -> None:
    assert look_ups(f"import flows, {module}") == []


def test_a_flow_run_without_a_server_looks_nothing_up(tmp_path: Path) -> None:
    """Prefect, its temporary server and its task engine, under the settings that flows/__init__.py sets."""
    program = """
    import os
    os.environ["PREFECT_HOME"] = sys.argv[1]
    import flows
    from prefect import flow, task

    @task
    def one() -> int:
        return 1

    @flow
    def two() -> int:
        return one() + 1

    assert two() == 2
    """
    assert look_ups(program, str(tmp_path)) == []


def test_the_default_encoder_is_read_without_a_network() -> None:
    program = """
    from penstock.model.text_encoder import TextEncoder
    from penstock.settings import load_settings
    TextEncoder(load_settings().text)
    """
    assert look_ups(program) == []
