"""The rollout in the service: who answers a user, what is noted of it, and a canary that ends itself.

Nothing of it can fail a request: a challenger that raises is counted and the champion answers instead; exposures wait
in memory and are written by a thread, so a crash forgets those of the last moment; a shadow ranks in another thread,
and when it cannot keep up requests go by without it, counted.
"""

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError, RegistryError
from penstock.registry.rollout_results import Results, results
from penstock.registry.rollouts import ACTOR, Exposure, Rollout, drop_earlier, latest, record, running, stop
from penstock.serving.runtime import Runtime
from penstock.serving.served import Served
from penstock.settings import Settings

log = logging.getLogger(__name__)
Rank = Callable[[Served, bool], dict[str, Any]]
"""Makes the answer of (version, shadow); takes the version's lock itself. A shadow ranks without dice."""

EXPOSURES_KEPT = 20_000
SHADOWS_WAITING = 64
REST = 19.0
"""Times as long as the reading of all answers took, nothing is read again."""


class Rollouts:
    """`answer` from any thread; the rest in threads of its own."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.runtime, self.settings = runtime, settings.rollout
        self.environment = settings.registry.environment
        self.positive_kinds = [kind for kind, gain in settings.data.gains.items() if gain > 0]
        self.poll_s = settings.service.poll_s
        self.counts: Counter[tuple[str, str]] = Counter()
        self.error: str | None = None
        self._active: tuple[Rollout, Served] | None = None
        self._refused: int | None = None
        self._exposed: deque[tuple[int, Exposure]] = deque(maxlen=EXPOSURES_KEPT)
        self._shadows: queue.Queue[Callable[[], None] | None] = queue.Queue(SHADOWS_WAITING)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._standing = threading.Lock()
        self._stood: tuple[tuple[int, datetime | None], Results] | None = None
        self._stood_until_s = 0.0

    @property
    def active(self) -> Rollout | None:
        """The rollout whose challenger is loaded here."""
        active = self._active
        return None if active is None else active[0]

    def answer(
        self, request_id: str, user_id: str | None, champion: Served, rank: Rank
    ) -> tuple[Served, dict[str, Any]]:
        """Who answers, and the answer. Users without an id always get the champion and are not counted."""
        active = self._active
        if active is None or user_id is None or champion.version != active[0].champion:
            return champion, rank(champion, False)
        rollout, challenger = active
        taken = rollout.takes(user_id)
        if taken and rollout.mode != "shadow":
            found = self._try(rollout, challenger, request_id, user_id, rank)
            if found is not None:
                return challenger, found
        started_s, now = time.perf_counter(), self.runtime.clock()
        found = rank(champion, False)
        if not taken and rollout.mode == "shadow":
            return champion, found
        if not taken or rollout.mode == "shadow":
            elapsed_s = time.perf_counter() - started_s
            self._note(rollout, Exposure(request_id, "champion", user_id, now, elapsed_s, False, _items(found)))
        if taken and rollout.mode == "shadow":
            self._ask_shadow(rollout, challenger, request_id, user_id, rank)
        return champion, found

    def _try(
        self, rollout: Rollout, challenger: Served, request_id: str, user_id: str, rank: Rank
    ) -> dict[str, Any] | None:
        started_s, now = time.perf_counter(), self.runtime.clock()
        try:
            self._catch_up(challenger)
            found = rank(challenger, False)
        except PenstockError:
            raise  # the request's own fault: the champion would say the same
        except Exception:  # the challenger's edge: whatever is wrong with it, the user gets the champion's answer
            log.exception("version %s of the rollout failed, the champion answers", challenger.version)
            self._note(rollout, Exposure(request_id, "challenger", user_id, now, 0.0, True, ()))
            return None
        elapsed_s = time.perf_counter() - started_s
        self._note(rollout, Exposure(request_id, "challenger", user_id, now, elapsed_s, False, _items(found)))
        return found

    def _ask_shadow(self, rollout: Rollout, challenger: Served, request_id: str, user_id: str, rank: Rank) -> None:
        now = self.runtime.clock()

        def work() -> None:
            started_s = time.perf_counter()
            try:
                self._catch_up(challenger)
                items, failed = _items(rank(challenger, True)), False
            except Exception:  # the challenger's edge: counted against it, and nobody waits for it
                log.exception("version %s failed in the shadow", challenger.version)
                items, failed = (), True
            elapsed_s = time.perf_counter() - started_s
            self._note(rollout, Exposure(request_id, "shadow", user_id, now, elapsed_s, failed, items))

        try:
            self._shadows.put_nowait(work)
        except queue.Full:
            self.counts["shadow", "dropped"] += 1

    def _catch_up(self, challenger: Served) -> None:
        """Let the challenger see what the journal accepted, as the champion does at once."""
        self.runtime.follow(challenger)

    def _note(self, rollout: Rollout, exposure: Exposure) -> None:
        self.counts[exposure.arm, "failed" if exposure.failed else "answered"] += 1
        self._exposed.append((rollout.id, exposure))

    def look(self, now: datetime) -> None:
        """One turn of the keeper: load or unload, write what waits, end a canary that should end.

        Raises:
            StateError: the state database cannot be used; what waits still waits.
        """
        self.flush()
        drop_earlier(self.runtime.state, self.environment)
        rollout = running(self.runtime.state, self.environment)
        served = self.runtime.served
        if rollout is not None and served is not None and served.version != rollout.champion:
            self._end(rollout, f"version {served.version} serves now, it was compared with {rollout.champion}", now)
            rollout = None
        if rollout is None:
            self._active = None
            return
        active = self._active
        if active is None or active[0].id != rollout.id or self.runtime.knows_erased(active[1]):
            self._load(rollout, now)
        active = self._active
        if active is None:
            return
        self._catch_up(active[1])
        found = self.standing(rollout, now)
        if found.stop is not None:
            self._end(rollout, found.stop, now)
            self._active = None

    def standing(self, rollout: Rollout, now: datetime) -> Results:
        """Where a rollout stands, as of at most `rollout.check_s` ago.

        All its answers are read, which takes seconds once there are millions: then it is done less often, so that a
        twentieth of the time goes into it.
        """
        with self._standing:
            key = (rollout.id, rollout.ended_at)
            if self._stood is None or self._stood[0] != key or time.monotonic() >= self._stood_until_s:
                started_s = time.monotonic()
                found = results(self.runtime.state, rollout, self.settings, self.positive_kinds, now)
                took_s = time.monotonic() - started_s
                self._stood = (key, found)
                self._stood_until_s = started_s + took_s + max(self.settings.check_s, REST * took_s)
            return self._stood[1]

    def latest(self) -> Rollout | None:
        """The newest rollout, ended or not."""
        return latest(self.runtime.state, self.environment)

    def flush(self) -> None:
        """Write the exposures that wait."""
        waiting: dict[int, list[Exposure]] = {}
        taken = [self._exposed.popleft() for _ in range(len(self._exposed))]
        for rollout_id, exposure in taken:
            waiting.setdefault(rollout_id, []).append(exposure)
        try:
            for rollout_id, exposed in waiting.items():
                record(self.runtime.state, rollout_id, exposed)
        except PenstockError:
            self._exposed.extendleft(reversed(taken))
            raise

    def _load(self, rollout: Rollout, now: datetime) -> None:
        if self._refused == rollout.id:
            return
        try:
            challenger = self.runtime.bring_up(rollout.number, rollout.digest, Path(rollout.folder))
        except (PenstockError, OSError, RuntimeError, ValueError, MemoryError) as error:
            self._refused = rollout.id
            self._end(rollout, f"version {rollout.number} cannot be loaded: {error}", now)
            return
        served = self.runtime.served
        if served is not None and challenger.scorer.task != served.scorer.task:
            self._end(rollout, f"version {rollout.number} is for the task {challenger.scorer.task}", now)
            return
        self._active = (rollout, challenger)
        log.info("version %s takes part as %s", rollout.number, rollout.mode)

    def _end(self, rollout: Rollout, why: str, now: datetime) -> None:
        try:
            stop(self.runtime.state, self.environment, ACTOR, why, now, only=rollout.id)
        except RegistryError:
            return  # somebody else was first
        log.warning("the %s of version %s ended: %s", rollout.mode, rollout.number, why)

    def start(self) -> None:
        """Begin to look and to rank in the shadow; without a state database there is nothing to look at."""
        if self.runtime.state is None:
            return
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._rank_shadows, name="penstock-shadow", daemon=True),
            threading.Thread(target=self._keep, name="penstock-rollout", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads: the shadow ranks what waits for it, then the keeper writes for the last time."""
        if not self._threads:
            return
        shadow, keeper = self._threads
        self._shadows.put(None)
        shadow.join(timeout=30)
        self._stop.set()
        keeper.join(timeout=30)
        self._threads = []

    def drain(self) -> None:
        """Rank what waits for the shadow, here and now."""
        while not self._shadows.empty():
            work = self._shadows.get()
            if work is not None:
                work()

    def _rank_shadows(self) -> None:
        while (work := self._shadows.get()) is not None:
            work()

    def _keep(self) -> None:
        while True:
            last = self._stop.wait(self.poll_s)
            try:
                self.look(self.runtime.clock())
                self.error = None
            except Exception as error:  # a thread's edge: whatever it was, the service goes on and says so
                self.error = f"{type(error).__name__}: {error}"
                log.exception("looking after the rollout failed")
            if last:
                return


def _items(found: dict[str, Any]) -> tuple[tuple[str, float | None], ...]:
    return tuple((item["item_id"], item.get("propensity")) for item in found["items"])
