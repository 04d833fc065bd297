"""The service, started: in one process, or in several behind one port, because the interpreter answers on one core.

With several, the parent opens the socket, uvicorn's supervisor keeps so many workers alive, and a connection goes to
whichever takes it first. Each worker is the whole service over the same state database: events, items, promotions and
decisions are there, and one worker notices what another wrote before its next answer (data.ends). What Prometheus
reads is added up (see telemetry); the limits at the door are each worker's own.
"""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from penstock.data.state import State, open_state
from penstock.errors import SettingsError
from penstock.registry.tokens import read_keys
from penstock.serving.app import create_app, open_runtime
from penstock.serving.limits import is_local
from penstock.serving.runtime import Runtime
from penstock.serving.telemetry import FIGURES
from penstock.settings import Settings

SWITCH_S = 0.001
"""How long a thread behind the scenes may keep the interpreter from one that answers (Python's own: 0.005)."""
log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop, in `service.processes` processes.

    Raises:
        SettingsError: service.host is reachable from other machines, and nobody has a token.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    state = open_state(settings.state.url)
    check_host(settings.service.host, state)
    state.engine.dispose()
    log.info("console at http://%s:%d/", settings.service.host, settings.service.port)
    if settings.service.processes == 1:
        answer(open_runtime(settings), settings)
    else:
        answer_in_workers(settings)


def answer(runtime: Runtime, settings: Settings) -> None:
    """Answer over a runtime until told to stop, in a process that does nothing else."""
    make_quick(runtime)
    uvicorn.run(create_app(runtime, settings), **_options(settings))


def answer_in_workers(settings: Settings) -> None:
    """Answer from several processes until told to stop.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-figures-") as folder:
        os.environ[FIGURES] = folder  # the workers' own, read when their prometheus_client is imported
        config = uvicorn.Config(
            partial(worker, settings), factory=True, workers=settings.service.processes, **_options(settings)
        )
        workers = Workers(config, sockets=[config.bind_socket()])
        workers.run()
    if workers.interrupted:
        raise KeyboardInterrupt


class Workers(Multiprocess):
    """uvicorn's supervisor; it also remembers that it was Ctrl-C."""

    interrupted = False

    def handle_int(self) -> None:
        """End."""
        self.interrupted = True
        super().handle_int()


def worker(settings: Settings) -> FastAPI:
    """The application of one worker; it takes no connection before it has looked for a version to serve."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    threading.Thread(target=_end_with_parent, name="penstock-parent", daemon=True).start()
    runtime = open_runtime(settings)
    make_quick(runtime)
    runtime.look()
    return create_app(runtime, settings)


def make_quick(runtime: Runtime) -> None:
    """Set this process up for answering, and nothing else."""
    from threadpoolctl import threadpool_limits

    sys.setswitchinterval(SWITCH_S)
    # A second thread waits for its half of each product by spinning: half of the processor time of a busy service.
    threadpool_limits(limits=1, user_api="blas")
    runtime.after_switch = settle


def settle() -> None:
    """Spare the garbage collector what a version consists of: it would look through all of it, again and again.

    A version that is let go is freed all the same, by its count of references.
    """
    gc.collect(1)
    gc.freeze()


def check_host(host: str, state: State) -> None:
    """Allow any host where somebody has a token, and loopback where nobody has.

    Raises:
        SettingsError: another address or name, and no live token.
    """
    if not is_local(host) and not read_keys(state).callers:
        raise SettingsError(
            f"service.host is {host!r}: other machines could reach it, and nobody has a token, so anybody could "
            "approve a version; make one with `penstock token create --role admin --name YOU`, or set service.host to "
            "127.0.0.1, ::1 or localhost"
        )


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "host": settings.service.host,
        "port": settings.service.port,
        "log_level": "warning",
        "access_log": False,
        "timeout_keep_alive": settings.service.keep_alive_s,
        "timeout_graceful_shutdown": 10,
    }


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
