"""How often each caller may come: one token bucket for each, and never more buckets than a fixed number."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CALLERS = 10_000
"""Whoever came longest ago is forgotten first, and starts again with a full bucket."""


class Rates:
    """Token buckets: each caller may come `burst` times at once, and `per_s` times a second in the long run."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_s, self.burst, self.clock = per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, caller: str) -> float:
        """0 where the caller may come now, which takes a token; else the seconds until it may."""
        now = self.clock()
        with self._lock:
            tokens, at = self._buckets.pop(caller, (float(self.burst), now))
            tokens = min(float(self.burst), tokens + (now - at) * self.per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self.per_s
            self._buckets[caller] = (tokens - 1 if wait_s == 0 else tokens, now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)
