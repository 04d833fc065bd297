"""A shop whose log arrives part by part, with real rounds in child processes that may be killed at any point.

Children come from a server process that has everything imported and nothing running, so that one costs a fork.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from core_bench import Shop, make_tiny_encoder, open_shop
from fault_points import Plan, Points

from penstock.data.snapshot import list_snapshots, read_snapshot
from penstock.data.state import State, open_state
from penstock.data.state import events as events_table
from penstock.errors import LeaseHeld
from penstock.inference.bundle import verify_bundle
from penstock.inference.scorer import Scorer, UserContext
from penstock.registry.store import open_registry
from penstock.settings import Settings

LEASE_S = 0.5
NOTHING = Plan()
FINE = ("promoted", "waiting")
PART = 170
"""Events that arrive at once."""

CONTEXT = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that children are forked from; it finds what to import by PYTHONPATH alone, and passes over
    in silence what it does not find."""
    import multiprocessing.forkserver

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        CONTEXT.set_forkserver_preload(["fault_imports"])
        multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    assert in_child(imported), "the server did not import what rounds need"


def imported() -> bool:
    """In a child: whether the server had imported what rounds need."""
    return "fault_imports" in sys.modules


@dataclass(frozen=True)
class Told:
    """What a child said before it ended. `outcomes`: of its rounds; None: it did not come to an end."""

    accepted: bool
    outcomes: list[str] | None
    error: str
    operations: int
    hit: str
    code: int


@dataclass
class World:
    """One shop under `root`, what its senders sent and what was acknowledged."""

    shop: Shop
    root: Path
    plan_sent: int = 0
    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)

    @property
    def settings(self) -> Settings:
        return self.shop.settings

    def keep(self) -> None:
        """Put aside everything as it is now, for `restore`."""
        shutil.copytree(self.root, self._aside)
        self._kept = self.plan_sent, set(self.acknowledged), set(self.sent)

    def restore(self) -> None:
        """Everything as `keep` found it, in the same place, since snapshots and bundles are known by their paths."""
        shutil.rmtree(self.root)
        shutil.copytree(self._aside, self.root)
        self.plan_sent, self.acknowledged, self.sent = self._kept[0], set(self._kept[1]), set(self._kept[2])

    @property
    def _aside(self) -> Path:
        return self.root.with_name(f"{self.root.name}-aside")

    def part(self) -> pl.DataFrame:
        """The next events that arrive."""
        start = self.plan_sent * PART
        rows = self.shop.dataset.events.sort("at", "event_id")[start : start + PART]
        assert len(rows) == PART, "the shop's log is used up; make it longer"
        return rows

    def state(self) -> State:
        return open_state(self.settings.state.url)

    def child(self, plan: Plan = NOTHING, limit_bytes: int | None = None, send: bool = True) -> Told:
        """Send the next part, and run rounds until nothing is pending, in a process that meets `plan`.

        A part that was not acknowledged is sent again by the next child. It waits while a dead worker's lease lasts.
        """
        with self.running(plan, limit_bytes, send) as (process, ours):
            return self.ended(process, ours)

    @contextmanager
    def running(
        self, plan: Plan, limit_bytes: int | None = None, send: bool = True
    ) -> Iterator[tuple[Any, Connection]]:
        """As `child`, not waited for."""
        rows = self.part()
        if send:
            self.sent |= set(rows["event_id"])
        ours, theirs = CONTEXT.Pipe(duplex=False)
        arguments = (self.settings, rows.to_dicts() if send else [], rows["at"][-1], plan, theirs, limit_bytes)
        process = CONTEXT.Process(target=live, args=arguments)
        process.start()
        theirs.close()
        try:
            yield process, ours
        finally:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            ours.close()

    def ended(self, process: Any, ours: Connection, patience_s: float = 900.0) -> Told:
        """Wait for a child and book what it acknowledged."""
        accepted, outcomes, error, operations, hit = False, None, "", 0, ""
        deadline = time.monotonic() + patience_s
        while True:
            if not ours.poll(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"a child said nothing for {patience_s:g} s")
            try:
                kind, value = ours.recv()
            except EOFError:
                break
            if kind == "accepted":
                accepted = True
                self.acknowledged |= set(self.part()["event_id"])
                self.plan_sent += 1
            elif kind == "ended":
                outcomes, error, operations, hit = value
        process.join(patience_s)
        return Told(accepted, outcomes, error, operations, hit, process.exitcode)

    def settle(self) -> None:
        """Let the leases of a dead worker run out, then run what it left."""
        for _ in range(5):
            told = self.child(send=False)
            if told.outcomes is not None and not told.error:
                return
            assert "LeaseHeld" in told.error, told
        raise AssertionError("the lease of a dead worker does not run out")

    def check(self) -> None:
        """What must hold at any moment: the champion is whole and answers, what was acknowledged is there."""
        state = self.state()
        try:
            pointer = open_registry(self.settings, state).champion_pointer()
            assert pointer is not None
            assert verify_bundle(pointer.bundle_dir) == pointer.digest
            scorer = Scorer.load(pointer.bundle_dir)
            ranked = scorer.rank(UserContext(scorer.state.histories.users()[0]), None, datetime.now(UTC), 3)
            assert len(ranked) == 3
            stored = self._stored(state)
            assert self.acknowledged <= stored <= self.sent
        finally:
            state.engine.dispose()

    def check_settled(self) -> None:
        """After the last round: every accepted event is in one snapshot, and every snapshot was taken in once."""
        self.check()
        state = self.state()
        try:
            snapshots = list_snapshots(state)
            ids: list[str] = [one for manifest in snapshots for one in read_snapshot(manifest)["event_id"]]
            assert len(ids) == len(set(ids)), "an event is in two snapshots"
            assert set(ids) <= self._stored(state) == self.acknowledged, "what is in no snapshot is still pending"
            learned = list_snapshots(state, status="learned")
            assert len(learned) + len(list_snapshots(state, status="quarantined")) == len(snapshots)
            carried, observed = in_child(next_start, self.settings)
            assert len(carried) == len(set(carried)), "a snapshot was learned from twice"
            counted = sum(one.rows - one.quarantined_rows for one in learned if one.snapshot_id in set(carried))
            assert observed == counted, "an event was counted twice or not at all"
        finally:
            state.engine.dispose()

    def _stored(self, state: State) -> set[str]:
        with state.read() as conn:
            return set(conn.execute(sa.select(events_table.c.event_id)).scalars())


def live(
    settings: Settings,
    rows: list[dict[str, Any]],
    newest: datetime,
    plan: Plan,
    told: Connection,
    limit_bytes: int | None,
) -> None:
    """In a child: accept events and acknowledge them, then run rounds until nothing is pending."""
    from penstock.data.journal import Journal
    from penstock.pipeline.ledger import opened
    from penstock.pipeline.online import run_round

    points = Points(plan).install()
    outcomes: list[str] = []
    error = ""
    try:
        if limit_bytes is not None:
            limit_file_size(limit_bytes)
        if rows:
            accepted = Journal(opened(settings), settings.data).append(rows, datetime.now(UTC))
            assert not accepted.rejected, accepted.rejected[0]
            told.send(("accepted", None))
        free_s = time.monotonic() + 20 * LEASE_S
        while True:
            try:
                result = run_round(settings, newest + timedelta(minutes=10))
            except LeaseHeld:
                if time.monotonic() > free_s:
                    raise
                time.sleep(LEASE_S / 5)
                continue
            if result is None:
                break
            outcomes.append(result.outcome if result.outcome in FINE else f"{result.outcome}: {result.reason}")
    except BaseException as caught:  # noqa: BLE001 the process's edge: what ended it is what the test looks at
        error = f"{type(caught).__name__}: {caught}"
    points.plan = NOTHING
    told.send(("ended", (None if error else outcomes, error, points.count, points.hit)))


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns in a child, where torch is imported already."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    return found


def answer(told: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In a child: send what `function` returns."""
    told.send(function(*arguments))


def next_start(settings: Settings) -> tuple[list[str], int]:
    """What the next round starts from: the snapshots that its checkpoint has taken in, the events it has counted."""
    from penstock.pipeline.checkpoints import start_from
    from penstock.pipeline.ledger import opened

    _, causal, carried = start_from(settings, opened(settings))
    return list(carried.snapshots), causal.observed_events


def limit_file_size(limit_bytes: int) -> None:
    """Let every write beyond `limit_bytes` of a file fail, in whatever library, as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))


def make_world(root: Path, parts: int) -> World:
    """A shop with enough log for `parts` parts, its first version promoted."""
    start_server()
    encoder = in_child(make_tiny_encoder, root / "encoder")
    log = {"simulate.requests_per_day": max(260, int(parts * PART / 8))}
    at_once = {"data.allowed_lateness_minutes": 0.0, "data.label_wait_minutes": 0.0, "gates.min_requests": 1}
    shop = open_shop(root, str(encoder), 1, **log, **at_once, **{"state.lease_s": LEASE_S})
    world = World(shop, root)
    told = world.child()
    assert told.outcomes == ["promoted"], told
    world.check_settled()
    world.keep()
    return world
