"""The GPU's memory runs out: the same step in smaller pieces, once, then a round that failed cleanly."""

from datetime import UTC, datetime, timedelta
from typing import Any

import torch
from fault_world import World, in_child

from penstock.data.journal import Journal
from penstock.pipeline.ledger import opened
from penstock.settings import Settings

ROOM = 12
"""Requests that fit at once: fewer than a batch of the shop, `training.batch_requests`, more than half of one."""


def starved(settings: Settings, newest: datetime, room: int) -> tuple[str, str, int]:
    """In a child: a round whose network has room for so many requests at once; its outcome, why, and the times that
    memory ran out."""
    from penstock.pipeline.online import run_round
    from penstock.training.tasks import RankTask

    whole, ran_out = RankTask.loss, 0

    def loss(task: RankTask, batch: Any, *rest: Any) -> Any:
        nonlocal ran_out
        if len(batch) > room:
            ran_out += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(task, batch, *rest)

    RankTask.loss = loss  # type: ignore[method-assign]
    result = run_round(settings, newest + timedelta(minutes=10))
    assert result is not None
    return result.outcome, result.reason, ran_out


def test_a_round_that_runs_out_of_memory_goes_on_in_smaller_pieces_or_fails_cleanly(
    world: World, figures: dict[str, dict[str, object]]
) -> None:
    said = {}
    for room in (ROOM, 1):
        rows = world.part()
        world.sent |= set(rows["event_id"])
        assert Journal(opened(world.settings), world.settings.data).append(rows, datetime.now(UTC)).rejected == []
        world.acknowledged |= set(rows["event_id"])
        world.plan_sent += 1
        said[room] = in_child(starved, world.settings, rows["at"][-1], room)
        world.check()
    assert said[ROOM] == ("promoted", "all gates passed; promoted by policy", 1)
    outcome, reason, ran_out = said[1]
    assert (outcome, ran_out) == ("failed", 2), reason
    assert "is out of memory (CUDA out of memory" in reason
    told = world.child()
    assert told.outcomes, told
    assert not told.outcomes[0].startswith("failed"), "the next round has memory again"
    world.check_settled()
    figures["out of memory"] = {"retried with smaller pieces": "promoted", "no room for these either": "failed"}
