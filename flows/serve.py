"""`make up`: the HTTP service as a process of its own, and scheduled rounds beside it.

Two processes, because a round keeps its interpreter busy for seconds and must not slow a request down. There is no
Prefect server to keep alive: each flow runs against the temporary one that Prefect starts in this process.
Rejected: Prefect's `serve`, which needs a server, pauses its schedules on shutdown and loses a tick to a long run.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from flows.demo_home import go_on_from_demo
from flows.schedule import Job, run_jobs
from penstock.errors import PenstockError
from penstock.settings import Settings, load_settings

log = logging.getLogger("penstock.flows")
STOP_S = 15.0


def round_once() -> str | None:
    """One round as a flow; a failed one is logged by Prefect and says so here, and the champion keeps serving."""
    from flows.online_round import online_round

    return _line(online_round(return_state=True))


def watch_once() -> str | None:
    """One look at what a crash may have left behind."""
    from flows.watch import watch

    return _line(watch(return_state=True))


def _line(state: Any) -> str | None:
    if not state.is_completed():
        return f"{state.name}: {state.message}"
    result = state.result()
    return str(result) if result else None


def start_service(settings: Settings, output: Path | None = None) -> "subprocess.Popen[bytes]":
    """The service in a process of its own, in a process group of its own so that Ctrl-C reaches us first.

    Args:
        output: the file that takes what it prints; else it prints where we do.
    """
    command = [os.fspath(Path(sys.executable).with_name("penstock")), "serve"]
    if output is None:
        child = subprocess.Popen(command, start_new_session=True)
    else:
        with output.open("ab") as file:
            child = subprocess.Popen(command, start_new_session=True, stdout=file, stderr=subprocess.STDOUT)
    log.info("service: http://%s:%d (process %d)", settings.service.host, settings.service.port, child.pid)
    return child


def wait_ready(address: str, limit_s: float) -> None:
    """Wait until the service has a version loaded.

    Raises:
        PenstockError: it was not ready within `limit_s` seconds.
    """
    until_s = time.monotonic() + limit_s
    found = "no answer"
    while time.monotonic() < until_s:
        try:
            answer = httpx.get(f"{address}/readyz", timeout=2)
        except httpx.HTTPError as error:
            found = type(error).__name__
        else:
            if answer.is_success:
                return
            found = f"status {answer.status_code}: {answer.text[:200]}"
        time.sleep(0.1)
    raise PenstockError(f"service at {address}: not ready after {limit_s:g} s, last found {found}; see its log above")


def stop_service(child: "subprocess.Popen[bytes]") -> None:
    """Ask it to finish its requests; after STOP_S seconds, insist."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def up(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM, or until the service ends; the exit code."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    child = start_service(settings)

    def follow() -> None:
        child.wait()
        stop.set()

    threading.Thread(target=follow, name="service", daemon=True).start()
    try:
        run_jobs(
            [
                Job("round", settings.schedule.round_minutes * 60, round_once),
                Job("watch", settings.schedule.watch_minutes * 60, watch_once),
            ],
            stop,
        )
        died = child.poll()
    finally:
        stop_service(child)
    if died is not None:
        log.error("the service ended with code %d; what it printed is above", died)
        return died or 1
    return 0


def main() -> None:
    """Start everything in the current folder."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("penstock").setLevel(logging.INFO)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    if go_on_from_demo():
        log.info("going on from the demo's state; data.dir is its copy of the catalogue")
    sys.exit(up(load_settings()))


if __name__ == "__main__":
    main()
