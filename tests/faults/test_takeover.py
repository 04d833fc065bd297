"""A worker that hangs in a round loses it to another; when it wakes, nothing that it writes counts."""

import os
import signal
import time
from collections import Counter

from fault_points import Plan
from fault_trials import Trials
from fault_world import LEASE_S, Told, World

from penstock.data.snapshot import list_snapshots
from penstock.pipeline.ledger import opened


def stopped(pid: int) -> bool:
    """True when the process hangs."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def test_a_zombie_writes_nothing(world: World, trials: Trials, figures: dict[str, dict[str, object]]) -> None:
    operations = world.child().operations
    count, slowest_s = trials(1, 130), 0.0

    def zombies(block: range) -> Counter[str]:
        nonlocal slowest_s
        came: Counter[str] = Counter()
        world.restore()
        for trial in block:
            told, over, taken_s = zombie(world, int(operations * (0.25 + 0.7 * (trial + 0.5) / count)))
            slowest_s = max(slowest_s, taken_s)
            came["over before it hung" if over else "refused" if told.error else "had nothing to write"] += 1
        world.settle()
        world.check_settled()
        return came

    came, failures = trials.blocks("zombies", count, 4, zombies)
    figures["zombies"] = {
        "tried": count, "failures": failures, "lease_s": LEASE_S,
        "slowest takeover and round, s": round(slowest_s, 1), **came,
    }  # fmt: skip
    assert not failures


def zombie(world: World, at: int) -> tuple[Told, bool, float]:
    """Let a worker hang at an operation, another take over, and the first one wake: what it said, whether its round was
    recorded before it hung, and how many seconds the other took for the takeover and its round."""
    learned_before = len(list_snapshots(opened(world.settings), status="learned"))
    with world.running(Plan("stop", at)) as (process, ours):
        while process.is_alive() and not stopped(process.pid):
            time.sleep(0.02)
        hung = process.is_alive()  # else its round was over before an operation outside of a transaction came
        if ours.poll(0) and ours.recv() == ("accepted", None):  # what it acknowledged before it hung
            world.acknowledged |= set(world.part()["event_id"])
            world.plan_sent += 1
        over = len(list_snapshots(opened(world.settings), status="learned")) > learned_before
        began = time.monotonic()
        world.settle()
        taken_s = time.monotonic() - began
        learned = len(list_snapshots(opened(world.settings), status="learned"))
        champion = serving(world)
        if hung:
            os.kill(process.pid, signal.SIGCONT)
        told = world.ended(process, ours)
    assert over or not told.outcomes, f"operation {at}: the zombie's round counted: {told}"
    assert len(list_snapshots(opened(world.settings), status="learned")) == learned
    assert serving(world) == champion
    world.check()
    return told, over, taken_s


def serving(world: World) -> str | None:
    """Number of the champion."""
    from penstock.registry.store import open_registry

    pointer = open_registry(world.settings, opened(world.settings)).champion_pointer()
    return None if pointer is None else pointer.number
