"""A worker that hangs in a round loses it to another; when it wakes, nothing that it writes counts."""

import os
import signal
import time

from fault_points import Plan
from fault_trials import Trials
from fault_world import LEASE_S, World

from penstock.data.snapshot import list_snapshots
from penstock.pipeline.ledger import opened


def stopped(pid: int) -> bool:
    """True when the process hangs."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def test_a_zombie_writes_nothing(world: World, trials: Trials, figures: dict[str, dict[str, object]]) -> None:
    whole = world.child()
    count, refused, slowest_s = trials(1, 100), 0, 0.0
    for trial in range(count):
        at = int(whole.operations * (0.25 + 0.7 * (trial + 0.5) / count))
        with world.running(Plan("stop", at)) as (process, ours):
            while process.is_alive() and not stopped(process.pid):
                time.sleep(0.02)
            if ours.poll(0) and ours.recv() == ("accepted", None):  # what it acknowledged before it hung
                world.acknowledged |= set(world.part()["event_id"])
                world.plan_sent += 1
            began = time.monotonic()
            world.settle()
            slowest_s = max(slowest_s, time.monotonic() - began)
            learned = len(list_snapshots(opened(world.settings), status="learned"))
            champion = serving(world)
            os.kill(process.pid, signal.SIGCONT)
            told = world.ended(process, ours)
        assert told.outcomes is None or not told.outcomes, f"operation {at}: the zombie's round counted: {told}"
        refused += bool(told.error)
        assert len(list_snapshots(opened(world.settings), status="learned")) == learned
        assert serving(world) == champion
        world.check()
    world.settle()
    world.check_settled()
    figures["zombies"] = {
        "tried": count, "refused": refused, "lease_s": LEASE_S, "slowest takeover and round, s": round(slowest_s, 1),
    }  # fmt: skip


def serving(world: World) -> str | None:
    """Number of the champion."""
    from penstock.registry.store import open_registry

    pointer = open_registry(world.settings, opened(world.settings)).champion_pointer()
    return None if pointer is None else pointer.number
