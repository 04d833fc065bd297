"""kill -9 at every operation of a round, between and inside its writes: nothing lost, nothing learned twice."""

import os
import random
import signal
import threading
import time
from collections import Counter

from fault_points import Plan
from fault_trials import Trials
from fault_world import World


def test_killed_at_any_operation_a_round_is_taken_up(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    whole = world.child()
    assert whole.outcomes, whole
    count = trials(6, 800)
    stride = max(1.0, whole.operations / count)
    places: Counter[str] = Counter()
    for trial in range(count):
        at = 1 + int(trial * stride) % whole.operations
        told = world.child(Plan("kill", at, torn=trial % 2 == 1))
        if told.code == -signal.SIGKILL:
            places["acknowledged" if told.accepted else "not acknowledged"] += 1
        else:
            places["ended before"] += 1
        world.check()
        if trial % 8 == 3:  # until then rounds are killed while they make good what the last kill left
            world.settle()
            world.check_settled()
    world.settle()
    world.check_settled()
    killed = places["acknowledged"] + places["not acknowledged"]
    assert killed >= count // 2, places
    assert places["acknowledged"], "no kill came after the events were accepted"
    figures["killed at an operation"] = {
        "operations of a round": whole.operations, "kills": killed, "events lost": 0, "learned twice": 0, **places,
    }  # fmt: skip


def test_killed_at_any_moment_a_round_is_taken_up(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    """By the clock, so that it also falls inside what a library writes on its own."""
    began = time.monotonic()
    world.child()
    usual_s = time.monotonic() - began
    count, killed, random_s = trials(1, 200), 0, random.Random(7)
    for _ in range(count):
        with world.running(Plan()) as (process, ours):
            timer = threading.Timer(random_s.uniform(0.1, 1.0) * usual_s, os.kill, (process.pid, signal.SIGKILL))
            timer.start()
            told = world.ended(process, ours)
            timer.cancel()
            timer.join()
        killed += told.code == -signal.SIGKILL
        world.check()
    world.settle()
    world.check_settled()
    figures["killed at a moment"] = {"trials": count, "kills": killed, "events lost": 0, "learned twice": 0}
