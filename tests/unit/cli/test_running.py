"""serve, up, doctor, round, backtest and stage, as far as they go without a model."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.cli.screen import TimeLeft, age


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_serve_answers_and_ctrl_c_ends_it(place: Path) -> None:
    environment = os.environ | {"PENSTOCK__SERVICE__PORT": str(free_port())}
    command = [sys.executable, "-m", "penstock.cli", "serve", "--json"]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            address = json.loads(child.stdout.readline())["address"]
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                assert client.get(f"{address}/healthz", timeout=30).json()["status"] == "ok"
            child.send_signal(signal.SIGINT)
            assert child.wait(60) == 130
            assert child.stdout.read() == ""
        finally:
            child.kill()


@contextmanager
def serving(place: Path, processes: int) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address, and the parent of so many workers, of which at least one answers."""
    environment = os.environ | {"PENSTOCK__SERVICE__PORT": str(free_port())}
    environment["PENSTOCK__SERVICE__PROCESSES"] = str(processes)
    command = [sys.executable, "-m", "penstock.cli", "serve", "--json"]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            address = json.loads(child.stdout.readline())["address"]
            wait(lambda: healthy(address))
            yield address, child
        finally:
            for one in workers(child):
                one.kill()
            child.kill()


def workers(child: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Those that answer; what else the interpreter starts beside them is none, nor is what has ended."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(child.pid).children():
            with suppress(psutil.NoSuchProcess):
                if any("spawn_main" in word for word in one.cmdline()):
                    found.append(one)
    return found


def healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=30).json()["status"] == "ok"
    except httpx.TransportError:
        return False


def wait(until: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 90
    while not until():
        assert time.monotonic() < end_s, "ninety seconds have gone by"
        time.sleep(0.05)


def test_several_processes_answer_on_one_port_and_count_together(place: Path) -> None:
    with serving(place, 2) as (address, child):
        assert len(workers(child)) == 2
        before = asked(address)
        assert all(healthy(address) for _ in range(40))  # a connection each, so that both are asked
        assert asked(address) == before + 40
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
        assert not healthy(address)


def asked(address: str) -> float:
    lines = httpx.get(f"{address}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('penstock_requests_total{route="/healthz"'))


def test_a_worker_that_ends_is_replaced_and_none_outlives_the_parent(place: Path) -> None:
    with serving(place, 2) as (address, child):
        first = workers(child)[0]
        first.kill()
        wait(lambda: len(workers(child)) == 2 and first.pid not in [one.pid for one in workers(child)])
        assert healthy(address)
        left = workers(child)
        child.kill()
        assert psutil.wait_procs(left, timeout=90)[1] == []


def test_a_port_in_use_is_said_before_anything_starts(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("PENSTOCK__SERVICE__PORT", str(taken.getsockname()[1]))
        assert "PENSTOCK__SERVICE__PORT" in answer("serve", code=1)["error"]["message"]


def test_up_outside_the_project_says_where_to_go(answer) -> None:
    assert "go there" in answer("up", code=1)["error"]["message"]


def test_up_passes_on_the_exit_code(answer, place: Path) -> None:
    (place / "flows").mkdir()
    (place / "flows" / "__init__.py").write_text("")  # a package of that name on the path would win over a bare folder
    (place / "flows" / "serve.py").write_text("import sys\nprint('noise')\nsys.exit(3)\n")
    assert answer("up", code=3) == {"exit_code": 3}


def test_doctor_on_a_machine_that_has_everything(run, answer) -> None:
    said = answer("doctor")
    assert said["ok"]
    verdicts = {check["name"]: check["verdict"] for check in said["checks"]}
    assert verdicts["encoder"] == verdicts["packages"] == verdicts["Python"] == "ok"
    assert verdicts["data.dir"] == "warning"
    assert "everything essential is here" in run("doctor", "--service").stdout


def test_doctor_names_what_is_missing(answer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("PENSTOCK__STATE__URL", "sqlite:///file/state.db")
    assert answer("doctor", "--service", code=1)["missing"] == ["state database"]
    (place / "broken.db").write_text("this is no database, whatever its name says" * 100)
    monkeypatch.setenv("PENSTOCK__STATE__URL", "sqlite:///broken.db")
    assert answer("doctor", "--service", code=1)["missing"] == ["state database"]
    monkeypatch.setenv("PENSTOCK__GATES__NOPE", "1")
    said = answer("doctor", "--service", code=1)
    assert said["missing"] == ["params.yaml"]
    assert "gates.nope" in said["checks"][-1]["found"]


def test_doctor_compares_with_the_pins(answer, place: Path) -> None:
    (place / "constraints.txt").write_text("# pinned\nNumPy==0.0.1\npyyaml==0.0.2  # old\n")
    said = answer("doctor", "--service")
    pinned = next(check for check in said["checks"] if check["name"] == "pinned versions")
    assert pinned["verdict"] == "warning"
    assert "numpy" in pinned["found"]
    assert "tested: 0.0.2" in pinned["found"]


def test_doctor_refuses_an_altered_encoder(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.model.text_encoder.MINILM_SHA256", "0" * 64)
    said = answer("doctor", code=1)
    assert said["missing"] == ["encoder"]


def test_a_round_with_nothing_pending_is_skipped(answer) -> None:
    said = answer("round")
    assert (said["outcome"], said["pending"]) == ("skipped", 0)


@pytest.mark.parametrize(
    ("words", "code", "found"),
    [
        (("--cadence", "1h,,never", "--windows", "4"), 1, "cadence ''"),
        (("--windows", "0"), 2, "--windows"),
        (("--warmup", "1"), 2, "--warmup"),
        (("--cadence", "1h,soon"), 1, "'soon'"),
    ],
)
def test_backtest_refuses_what_it_cannot_replay(answer, words: tuple[str, ...], code: int, found: str) -> None:
    said = answer("backtest", "--data", "none", "--out", "out", *words, code=code)
    assert found in said["error"]["message"]


def test_an_unknown_stage_is_a_usage_error(answer) -> None:
    assert "'deploy'" in answer("stage", "deploy", code=2)["error"]["message"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (42, "42 s"), (600, "10 min"), (12_600, "3.5 h"), (259_200, "3.0 d")]
)
def test_ages_as_one_says_them(seconds: float | None, text: str | None) -> None:
    assert age(seconds) == text


def test_time_left_goes_by_the_pace_since_it_was_first_heard_of() -> None:
    now_s = 0.0
    left = TimeLeft(lambda: now_s)
    assert left.text("1h", 30, 40) == ""
    now_s = 50.0
    assert left.text("1h", 35, 40) == "6.0/min, about 50 s left"
    now_s = 100.0
    assert left.text("1h", 40, 40) == ""
