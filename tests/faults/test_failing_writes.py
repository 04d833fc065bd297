"""The Nth write, sync, rename or commit fails, once and for good, and files cannot grow: loud, intact, resumed."""

import errno
from collections import Counter

import pytest
from fault_points import Action, Plan
from fault_trials import FULL, Trials
from fault_world import World

BLOCK = 8


@pytest.mark.parametrize("action", ["once", "ever"])
def test_an_operation_that_fails_is_loud_and_made_good(
    world: World, trials: Trials, figures: dict[str, dict[str, object]], action: Action
) -> None:
    operations = world.child().operations
    count = trials(3, operations)

    def failing(block: range) -> Counter[str]:
        came: Counter[str] = Counter()
        world.restore()
        for trial in block:
            at = 1 + trial * operations // count
            told = world.child(Plan(action, at, code=errno.ENOSPC if trial % 2 else errno.EIO))
            assert told.code == 0, f"operation {at} ({told.hit}): the process died: {told}"
            if told.error:
                came["an error"] += 1
            else:
                came["made good at once" if told.hit else "not reached"] += 1
                assert told.outcomes is not None
                if action == "ever" and told.hit:
                    assert "promoted" not in told.outcomes, f"operation {at} ({told.hit}) failed and nobody was told"
            world.check()
            world.settle()
        world.check_settled()
        return came

    came, failures = trials.blocks(f"operations that fail {action}", count, BLOCK, failing)
    figures[f"operations that fail {action}"] = {
        "operations of a round": operations, "tried": count, "failures": failures, **came,
    }  # fmt: skip
    assert not failures
    if action == "ever":  # one that fails once may be tried again by whoever met it
        assert came["an error"], came


def test_files_that_cannot_grow_lose_nothing(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    """The limit is the system's own, so it meets databases, Parquet, checkpoints and graphs alike."""
    sizes = [4, 64, 256, 1024, 4096, 16384]
    errors: Counter[str] = Counter()
    for kb in sizes if FULL else sizes[1::3]:
        told = world.child(limit_bytes=kb * 1024)
        assert told.code == 0, f"limit of {kb} KB: the process died: {told}"
        if told.error:
            errors[told.error.split(":")[0]] += 1
        world.check()
        world.settle()
    world.check_settled()
    assert errors
    figures["files that cannot grow"] = {"limits in KB": sizes, "errors": dict(errors)}
