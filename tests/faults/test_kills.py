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

BLOCK = 8
"""Kills in a row: a round is also killed while it makes good what the kills before it left. Then all is counted."""


def test_killed_at_any_operation_a_round_is_taken_up(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    operations = world.child().operations
    count = trials(6, 800)
    stride = max(1.0, operations / count)

    def killed(block: range) -> Counter[str]:
        came: Counter[str] = Counter()
        world.restore()
        for trial in block:
            told = world.child(Plan("kill", 1 + int(trial * stride) % operations, torn=trial % 2 == 1))
            if told.code == -signal.SIGKILL:
                came["killed after the acknowledgement" if told.accepted else "killed before it"] += 1
            else:
                came["ended before"] += 1
            world.check()
        world.settle()
        world.check_settled()
        return came

    came, failures = trials.blocks("killed at an operation", count, BLOCK, killed)
    figures["killed at an operation"] = {
        "operations of a round": operations, "trials": count, "failures": failures, **came,
    }  # fmt: skip
    assert not failures
    assert came["ended before"] <= count // 2, came
    assert came["killed after the acknowledgement"], "no kill came after the events were accepted"


def test_killed_at_any_moment_a_round_is_taken_up(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    """By the clock, so that it also falls inside what a library writes on its own."""
    began = time.monotonic()
    world.child()
    usual_s = time.monotonic() - began

    def killed(block: range) -> Counter[str]:
        came: Counter[str] = Counter()
        world.restore()
        for trial in block:
            after_s = random.Random(trial).uniform(0.1, 1.0) * usual_s
            with world.running(Plan()) as (process, ours):
                timer = threading.Timer(after_s, os.kill, (process.pid, signal.SIGKILL))
                timer.start()
                told = world.ended(process, ours)
                timer.cancel()
                timer.join()
            came["killed" if told.code == -signal.SIGKILL else "ended before"] += 1
            world.check()
        world.settle()
        world.check_settled()
        return came

    count = trials(1, 200)
    came, failures = trials.blocks("killed at a moment", count, BLOCK, killed)
    figures["killed at a moment"] = {"trials": count, "failures": failures, **came}
    assert not failures
