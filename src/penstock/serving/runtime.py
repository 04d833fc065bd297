"""What serves right now, and how it is exchanged without a request noticing.

A poller looks at the registry's pointer. A new champion is loaded, warmed and brought up to date beside the old one;
then one reference is switched. Requests in flight hold the old reference and finish on it. Every scorer follows the
journal by its sequence number, so whichever one serves has seen each accepted event once, also those that came in
while it was loading or through another process. What another process wrote is noticed before the next answer.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock.errors import BundleError, PenstockError, StateError
from penstock.records import EVENT_COLUMNS
from penstock.serving.ports import AcceptedLike, JournalLike, PointerLike, PostedLike, ScorerLike
from penstock.serving.served import Served, warm

log = logging.getLogger(__name__)
PAGE = 5_000
AT_ONCE = 1_000
"""Journal entries that an answer waits for; a longer run of them, as an import is, comes in behind the answers."""
ITEMS_AT_ONCE = 50
"""The same of posted items, each of which is encoded."""


class NotReady(PenstockError):
    """No bundle is loaded yet."""


@dataclass(frozen=True)
class LoadFailure:
    """Why a version could not be brought up."""

    version: str
    digest: str
    error: str
    at: datetime


@dataclass
class SwapCounts:
    """Since the start of this process."""

    swapped: int = 0
    failed: int = 0
    poll_errors: int = 0


class Runtime:
    """Holds the served version. Threads: `current` and `accept` from any; `poll` from one at a time.

    Args:
        load: verifies a bundle folder and brings it up; raises BundleError.
        state, decisions: the state database and what carries a person's decision; for the routes, unused here.
        clock: the present, UTC.
        posted: items that came in through the service, None where none can.
        ends: the last numbers of the journal, of the posted items and of whatever else the poller follows, whoever
            wrote them (data.ends); None where only the poller looks.
        erased: the number of the last erasure of a user; a version brought up before it is brought up anew.
    """

    def __init__(
        self,
        registry: PointerLike,
        journal: JournalLike,
        load: Callable[[Path], ScorerLike],
        poll_s: float,
        state: Any = None,
        decisions: Any = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        posted: PostedLike | None = None,
        ends: Callable[[], tuple[int, ...]] | None = None,
        erased: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry: Any = registry
        self.posted = posted
        self.journal, self.state, self.decisions, self.clock = journal, state, decisions, clock
        self.after_switch: Callable[[], None] = lambda: None
        self.counts = SwapCounts()
        self.failure: LoadFailure | None = None
        self.poll_error: str | None = None
        self._load, self._poll_s = load, poll_s
        self._served: Served | None = None
        self._ends, self._others, self._erased = ends, list[int](), erased
        self._polling, self._stop, self._wake = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._floor: tuple[datetime, int] | None = None

    @property
    def served(self) -> Served | None:
        """The served version, None before the first one is loaded."""
        return self._served

    @property
    def load(self) -> Callable[[Path], ScorerLike]:
        """What verifies a bundle folder and brings it up."""
        return self._load

    def current(self) -> Served:
        """The served version.

        Raises:
            NotReady: none is loaded.
        """
        served = self._served
        if served is None:
            reason = self.failure.error if self.failure else self.poll_error or "the registry has no champion"
            raise NotReady(f"no version is loaded: {reason}; promote one, or see /v1/status")
        return served

    def accept(self, events: list[dict[str, Any]]) -> AcceptedLike:
        """Append events durably, then let the served version see them."""
        accepted = self.journal.append(events, self.clock())
        served = self._served
        if served is not None:
            self.follow(served)
        return accepted

    def accepted_seq(self) -> int:
        """The last journal entry of any process, 0 where that cannot be told in microseconds.

        The poller looks at once where something else was written: a promotion, a posted item.
        """
        if self._ends is None:
            return 0
        seq, *others = self._ends()
        if others != self._others:
            self._others = others
            self._wake.set()
        return seq

    def is_behind(self, seq: int) -> bool:
        """Whether an answer should wait for journal entries up to `seq`."""
        served = self._served
        return served is not None and served.seq < seq <= served.seq + AT_ONCE

    def catch_up(self, seq: int) -> None:
        """Let the served version see the journal up to `seq`; where it cannot be read, answers go on without."""
        served = self._served
        try:
            if served is not None:
                self.follow(served, seq)
        except StateError as error:
            self.poll_error = f"{type(error).__name__}: {error}"

    def lacks_items(self) -> bool:
        """Whether another process took in a few items that the served version does not know yet."""
        served = self._served
        if served is None or self._ends is None or self.posted is None:
            return False
        return served.items_seq < self._ends()[1] <= served.items_seq + ITEMS_AT_ONCE

    def take_up_items(self) -> bool:
        """Make the served version know them, before an item is called unknown; whether there were any."""
        served = self._served
        if served is None or not self.lacks_items():
            return False
        self._learn_items(served)
        return True

    def take_in(self, items: list[dict[str, Any]]) -> int:
        """Keep new items durably, then make the served version know them. Returns how many were new."""
        assert self.posted is not None
        added = self.posted.append(items, self.clock())
        served = self._served
        if served is not None:
            self._learn_items(served)
        return added

    def _learn_items(self, served: Served) -> None:
        """Encode what was posted since, without the lock, and add it: an answer waits for the adding only."""
        if self.posted is None or served.scorer.task != "rank":
            return
        items, seq = self.posted.read(served.items_seq)
        if items.is_empty():
            return
        vector_BE = served.scorer.encode_items(items)
        with served.lock:
            served.scorer.add_items(items, vector_BE)
            served.items_seq = max(served.items_seq, seq)

    def poll(self) -> bool:
        """Look at the registry once; True when another version serves now.

        A bundle that fails is counted, remembered and not tried again until the pointer moves; the old one stays.
        """
        with self._polling:
            pointer = self.registry.champion_pointer()
            self.poll_error = None
            served = self._served
            if served is not None:
                self._learn_items(served)
                self.follow(served)
            if pointer is None:
                return False
            number, digest, folder = pointer
            if self._is_known(number, digest):
                if served is None or not self.knows_erased(served):
                    return False
                number, digest, folder = served.version, served.digest, served.folder
                served.erasure = self._erased()  # tried once: what does not load now will not load in a moment
            try:
                self._switch(number, digest, Path(folder))
            except (PenstockError, OSError, RuntimeError, ValueError, MemoryError) as error:
                self.counts.failed += 1
                self.failure = LoadFailure(number, digest, f"{type(error).__name__}: {error}", self.clock())
                # The text, not the error: whoever keeps the record would keep its frames, and with them the old scorer.
                log.error("version %s cannot serve, the old one stays: %s", number, self.failure.error)
                return False
            return True

    def start(self) -> None:
        """Poll now, then every `poll_s` or when woken, in a thread: the process answers while the first one loads."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="penstock-poller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the poller."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self.look()
            self._wake.wait(self._poll_s)

    def look(self) -> None:
        """Poll; what fails is counted, logged and kept in `poll_error`."""
        try:
            self.poll()
        except Exception as error:  # a thread's edge: whatever it was, the service goes on and says so
            self.counts.poll_errors += 1
            self.poll_error = f"{type(error).__name__}: {error}"
            log.exception("looking for a new champion failed")

    def _is_known(self, number: str, digest: str) -> bool:
        served, failure = self._served, self.failure
        if served is not None and (served.version, served.digest) == (number, digest):
            self.failure = None
            return True
        return failure is not None and (failure.version, failure.digest) == (number, digest)

    def knows_erased(self, served: Served) -> bool:
        """Whether a user was erased since a version was brought up: it may hold their history."""
        return served.erasure < self._erased()

    def bring_up(self, number: str, digest: str, folder: Path) -> Served:
        """Load a version beside the one that serves, up to date with the journal; it answers nobody by itself.

        Raises:
            BundleError: the folder holds no whole bundle, or another one.
        """
        scorer = self._load(folder)
        if scorer.digest != digest:
            raise BundleError(
                f"{folder} holds bundle {scorer.digest[:12]}, the registry expects {digest[:12]} for version {number}; "
                "register the bundle again"
            )
        fresh = Served(number, digest, scorer, self.clock(), folder, self._erased())
        self._learn_items(fresh)
        self._replay(fresh)
        fresh.loaded_seq = fresh.seq
        warm(scorer, self.clock())
        return fresh

    def follow(self, served: Served, until: int | None = None) -> None:
        """Let a version see what the journal accepted since; an answer waits for the seeing, not for the reading.

        Args:
            until: nothing is read where it has seen this entry.
        """
        with served.following:
            more = until is None or served.seq < until
            while more:
                page = self.journal.read(served.seq, PAGE)
                if not page.is_empty():
                    with served.lock:
                        served.see(page)
                more = len(page) == PAGE
            if served.scorer.task == "rank":
                served.scorer.state.fold_apart(served.lock)

    def _switch(self, number: str, digest: str, folder: Path) -> None:
        fresh = self.bring_up(number, digest, folder)
        with fresh.following, fresh.lock:  # whoever comes now waits until it has seen what the old one has
            self._served = fresh
            while not (page := self.journal.read(fresh.seq, PAGE)).is_empty():
                fresh.see(page)
        self.counts.swapped += 1
        self.failure = None
        self.after_switch()
        log.info("version %s serves (bundle %s)", number, digest[:12])

    def _replay(self, served: Served) -> None:
        """Let a new scorer see what was accepted after it learned; entries below `_floor` are known to be older.

        An event that happened before `learned_until` but was accepted after the snapshot closed is left to the next
        round: nothing tells whether this bundle has learned it, and counting it twice is worse than late.
        """
        until = _utc(served.scorer.learned_until)
        if self._floor is not None and self._floor[0] <= until:
            served.seq = self._floor[1]
        floor, older_only = served.seq, True
        while True:
            page = self.journal.read(served.seq, PAGE)
            if page.is_empty():
                break
            newer = page.filter(pl.col("at") > until)
            if older_only:
                floor = int(page["seq"][-1]) if newer.is_empty() else int(newer["seq"][0]) - 1
                older_only = newer.is_empty()
            if len(newer):
                served.scorer.observe(newer.select(list(EVENT_COLUMNS)))
            served.seq = int(page["seq"][-1])
        self._floor = (until, floor)


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
