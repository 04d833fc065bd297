"""Steady requests against a running service, so that the demo can show a swap under load."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType
from typing import Any, Self

import httpx


@dataclass
class TrafficReport:
    """What came back. `by_version`: answers by the version that made them; `failures`: status or error, counted."""

    by_version: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Requests that were answered or failed."""
        return self.by_version.total() + self.failures.total()

    def quantile_ms(self, share: float) -> float:
        """The latency that `share` of the answers stayed within; NaN before the first answer."""
        if not self.latency_ms:
            return float("nan")
        ordered = sorted(self.latency_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Traffic:
    """Asks for recommendations from several threads until it is left.

    Args:
        address: of the service, without a path.
        users: whose recommendations are asked for, in turn.
        threads: how many ask at once.
        pause_s: between two requests of one thread.
        transport: where requests go; a fake in the tests.
    """

    def __init__(
        self,
        address: str,
        users: Sequence[str],
        threads: int = 2,
        pause_s: float = 0.01,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.report = TrafficReport()
        self._client = httpx.Client(base_url=address, timeout=60.0, transport=transport)
        self._users = cycle(list(users))
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, name=f"traffic-{n}") for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def wait_for_version(self, version: str, limit_s: float) -> float | None:
        """Seconds until `version` first answered, None when it did not within `limit_s`."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < limit_s:
            if self.report.by_version[version]:
                return time.monotonic() - began_s
            time.sleep(0.02)
        return None

    def wait_for_answers(self, count: int, limit_s: float) -> None:
        """Return once `count` requests came back in all, or after `limit_s` seconds."""
        until_s = time.monotonic() + limit_s
        while self.report.sent < count and time.monotonic() < until_s:
            time.sleep(0.02)

    def _ask(self) -> None:
        while not self._stop.wait(self._pause_s):
            with self._lock:
                user = next(self._users)
            began_s = time.monotonic()
            try:
                answer = self._client.post("/v1/recommendations", json={"user_id": user, "k": 10})
            except httpx.HTTPError as error:
                self._count(type(error).__name__, None, began_s)
                continue
            self._count(None if answer.is_success else f"status {answer.status_code}", answer, began_s)

    def _count(self, failure: str | None, answer: httpx.Response | None, began_s: float) -> None:
        with self._lock:
            if failure is not None or answer is None:
                self.report.failures[failure or "no answer"] += 1
                return
            body: dict[str, Any] = answer.json()
            self.report.by_version[str(body["version"])] += 1
            self.report.latency_ms.append((time.monotonic() - began_s) * 1000)
