"""The thread that does what must not slow a request down: the answer log, the watch period, dropping what is old."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

log = logging.getLogger(__name__)

Chore = Callable[[datetime], object]


class Keeper:
    """Calls each chore every so many seconds until it is stopped; one that fails is tried again at its next turn.

    Args:
        chores: (seconds between two calls, what to call with the present).
        clock: the present, UTC.
    """

    def __init__(self, chores: list[tuple[float, Chore]], clock: Callable[[], datetime]) -> None:
        self._chores, self._clock = chores, clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: str | None = None

    def start(self) -> None:
        """Begin, in a thread of its own; without chores there is nothing to begin."""
        if not self._chores:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="penstock-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, with a last call of every chore, so that nothing waits unwritten."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None
            for _, chore in self._chores:
                self._do(chore)

    def _run(self) -> None:
        due_s = [time.monotonic() + every_s for every_s, _ in self._chores]
        while not self._stop.wait(max(0.0, min(due_s) - time.monotonic())):
            for place, (every_s, chore) in enumerate(self._chores):
                if time.monotonic() >= due_s[place]:
                    self._do(chore)
                    due_s[place] = time.monotonic() + every_s

    def _do(self, chore: Chore) -> None:
        try:
            chore(self._clock())
            self.error = None
        except Exception as error:  # a thread's edge: whatever it was, the service goes on and says so
            message = f"{type(error).__name__}: {error}"
            if message != self.error:
                log.exception("a chore of the service failed, it is tried again")
            self.error = message
