"""serve, up, status and doctor."""

import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from penstock.cli.answer import FAILED, INTERRUPTED, Answer, Output, command
from penstock.cli.interrupts import interrupts
from penstock.cli.opened import load, open_all, open_state_only
from penstock.cli.screen import Screen, age
from penstock.errors import DependencyMissing, SettingsError

FLOWS = Path("flows") / "serve.py"
STDERR = 2


@command("serve")
def serve(output: Output) -> None:
    """Run the HTTP service and its console until Ctrl-C.

    With --json the address is printed at once, as {"address": …}.
    """
    from penstock.serving.server import check_host
    from penstock.serving.server import serve as run

    settings, state = open_state_only()
    host, port = settings.service.host, settings.service.port
    check_host(host, state)
    _need_free_port(host, port)
    address = f"http://{host}:{port}"
    output.print(Answer({"address": address}, lambda screen: screen.line(f"{address}  (Ctrl-C to stop)")))
    with interrupts() as noted:
        run(settings)
    if noted:  # the server took Ctrl-C as a request to finish, as uvicorn does
        raise KeyboardInterrupt


def _need_free_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"service.port {port} on {host} cannot be used ({error.strerror}); stop what listens there or set "
                "PENSTOCK__SERVICE__PORT to another port"
            ) from error


@command("up")
def up(output: Output) -> Answer:
    """Run the service, the console and the scheduled rounds until Ctrl-C."""
    load()
    if not FLOWS.is_file():
        raise DependencyMissing(
            f"{FLOWS} is not in {Path.cwd()}: scheduled rounds are started from the project's folder; go there, or run "
            "`penstock serve` for the service alone"
        )
    stdout = STDERR if output.as_json else None
    code = _follow(subprocess.Popen([sys.executable, "-m", "flows.serve"], stdout=stdout))
    return Answer({"exit_code": code}, lambda screen: screen.line("stopped"), code)


def _follow(child: "subprocess.Popen[bytes]") -> int:
    """Wait for the child; it gets Ctrl-C from the terminal itself, and SIGTERM from us."""
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, note),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupted:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


@command("status")
def status(output: Output) -> Answer:
    """What serves and how old it is, what waits, what was refused."""
    from penstock.pipeline.upkeep import interrupted_rounds, round_is_running
    from penstock.serving.status import status as look

    settings, state, registry = open_all()
    now = datetime.now(UTC)
    data = look(state, registry, settings, now)
    data["round_running"] = round_is_running(state, now)
    data["interrupted_rounds"] = interrupted_rounds(state, now)
    return Answer(data, lambda screen: _show_status(screen, data))


def _show_status(screen: Screen, data: dict[str, Any]) -> None:
    champion = data["champion"] or {}
    screen.facts(
        {
            "environment": f"{data['environment']}, task {data['task']}",
            "champion": f"version {champion['version']}" if champion else "none yet; run `penstock round`",
            "its age": age(champion.get("age_s")),
            "serving for": age(champion.get("since_s")),
            "learned until": champion.get("learned_until"),
            "data sha256": champion.get("data_sha256"),
            "freshness": age(data["freshness_s"]),
            "rounds, as they ended": _counts(data["rounds"]) + (", one is running" if data["round_running"] else ""),
            "snapshots": f"{data['snapshots']['accepted']} accepted, {data['snapshots']['quarantined']} quarantined",
            "quarantine entries": _counts(data["quarantine"]["by_status"]),
            "events": f"{data['events']['total']} accepted, {data['events']['pending']} pending",
            "challengers waiting": ", ".join(data["challengers"]) or None,
        }
    )
    for line in data["interrupted_rounds"]:
        screen.line(line)
    if data["recent_rounds"]:
        rows = [[row["round_id"], row["outcome"] or row["status"], row["version"], row["reason"]] for row in
                data["recent_rounds"][:5]]  # fmt: skip
        screen.table(["round", "outcome", "version", "reason"], rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


@command("doctor", click.option("--service", is_flag=True, help="Check what the service alone needs."))
def doctor(output: Output, service: bool) -> Answer:
    """Say what is missing on this machine, and what to do about it.

    Ends with 1 when something essential is missing.
    """
    from penstock.cli.checks import run_checks

    checks = run_checks(service)
    broken = [check.name for check in checks if check.verdict == "missing"]
    data = {"ok": not broken, "missing": broken, "checks": [check._asdict() for check in checks]}

    def show(screen: Screen) -> None:
        screen.table(["", "check", "found", "next step"], [[c.verdict, c.name, c.found, c.next_step] for c in checks])
        screen.line("everything essential is here" if not broken else f"missing: {', '.join(broken)}")

    return Answer(data, show, FAILED if broken else 0)


COMMANDS = (serve, up, status, doctor)
