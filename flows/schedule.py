"""A plain scheduler in one process, for `make up`: no Prefect server, no worker.

Each job runs on its own period, one at a time, and is due at once when it starts. A run that takes longer than its
period delays the next one; missed ticks are not made up for, because the next round takes all pending events anyway.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger("penstock.flows")


@dataclass
class Job:
    """Something to do every `period_s` seconds. `run` returns one line to log, or nothing worth a line."""

    name: str
    period_s: float
    run: Callable[[], str | None]
    due_s: float = field(default=0.0)


def run_jobs(jobs: list[Job], stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
    """Run jobs as they fall due until `stop` is set; waiting ends at once when it is.

    A job decides what a failure is worth: what it raises ends the scheduler.
    """
    for job in jobs:
        job.due_s = clock()
    while not stop.is_set():
        job = min(jobs, key=lambda one: one.due_s)
        if stop.wait(max(0.0, job.due_s - clock())):
            return
        line = job.run()
        if line:
            log.info("%s: %s", job.name, line)
        job.due_s = max(job.due_s + job.period_s, clock())
