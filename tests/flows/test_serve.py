"""`make up` ends when it is told to, and when its service ends; in a process of its own, as a person runs it."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.serve import stop_service, wait_ready
from penstock.errors import PenstockError

ROOT = Path(__file__).parents[2]

UP = """
import subprocess, sys
from flows import serve
from penstock.settings import load_settings

service = {service!r}
serve.start_service = lambda settings: subprocess.Popen([sys.executable, "-c", service])
serve.round_once = lambda: print("round", flush=True)
serve.watch_once = lambda: print("watch", flush=True)
sys.exit(serve.up(load_settings()))
"""


def up(service: str) -> "subprocess.Popen[str]":
    program = textwrap.dedent(UP).format(service=service)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_success_and_takes_the_service_along(number: signal.Signals, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    service = (
        "import pathlib, signal, sys, time\n"
        f"alive = pathlib.Path({str(alive)!r})\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (alive.unlink(), sys.exit(0)))\n"
        "alive.touch()\n"
        "time.sleep(300)"
    )
    with up(service) as process:
        assert process.stdout is not None
        assert {process.stdout.readline().strip() for _ in range(2)} == {"round", "watch"}
        until_s = time.monotonic() + 60
        while not alive.exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not alive.exists()


def test_a_service_that_ends_ends_it_with_its_code() -> None:
    with up("import sys; sys.exit(3)") as process:
        assert process.wait(60) == 3


def test_a_service_that_will_not_stop_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.serve.STOP_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stop_service(child)
        assert child.returncode == -signal.SIGKILL


def test_a_service_that_is_not_ready_says_what_was_found() -> None:
    with pytest.raises(PenstockError, match=r"not ready after 0\.3 s, last found ConnectError"):
        wait_ready("http://127.0.0.1:9", limit_s=0.3)
