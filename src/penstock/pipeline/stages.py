"""How long each stage of a round took."""

import time
from collections.abc import Callable
from contextvars import ContextVar

WATCHER: ContextVar[Callable[[str], None] | None] = ContextVar("watcher", default=None)
"""Called with each stage's name as it ends, for whoever shows a round's progress."""


class Stages:
    """A watch that names what has just ended; `seconds` by stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def done(self, name: str) -> None:
        """What ran since the last call, or since the start, was `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
        watcher = WATCHER.get()
        if watcher is not None:
            watcher(name)

    def split(self, name: str, parts: dict[str, float]) -> None:
        """As `done`, with shares of it that were measured inside named apart."""
        self.done(name)
        for part, seconds in parts.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds
            self.seconds[name] -= seconds
