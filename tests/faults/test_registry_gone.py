"""The registry's database is locked or gone: the service answers, nothing is promoted by half, all resumes."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from fault_trials import Trials
from fault_world import World

from penstock.errors import PenstockError
from penstock.inference.scorer import Scorer
from penstock.pipeline.ledger import opened
from penstock.registry.store import open_registry
from penstock.serving.runtime import Runtime


def database(world: World) -> Path:
    return Path(world.settings.registry.tracking_uri.removeprefix("sqlite:///"))


def test_a_locked_registry_is_waited_for_or_told(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    locked_s = trials(2, 60)
    lock = sqlite3.connect(database(world), isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(locked_s, lambda: (lock.rollback(), lock.close()))
    release.start()
    began = time.monotonic()
    told = world.child()
    took_s = time.monotonic() - began
    release.join()
    assert told.code == 0, told
    if told.error:
        assert "locked" in told.error or "registry" in told.error.lower(), told
    world.check()
    world.settle()
    world.check_settled()
    figures["registry locked"] = {
        "locked, s": locked_s, "the round": told.error or told.outcomes or "", "took, s": round(took_s, 1),
    }  # fmt: skip


def test_a_registry_that_is_gone_stops_rounds_not_answers(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    path = database(world)
    away = path.with_suffix(".away")
    state = opened(world.settings)
    registry = open_registry(world.settings, state)
    pointer = registry.champion_pointer()
    assert pointer is not None
    before = Scorer.load(pointer.bundle_dir).digest
    path.rename(away)
    path.mkdir()  # a folder in its place: nothing can be opened there
    try:
        told = world.child()
        assert told.code == 0, told
        assert told.error, "a round without a registry said nothing"
        after = open_registry(world.settings, state).champion_pointer()
        assert after is not None
        assert Scorer.load(after.bundle_dir).digest == before, "the champion is the state database's, and still serves"
    finally:
        path.rmdir()
        away.rename(path)
    world.settle()
    world.check_settled()
    figures["registry gone"] = {"the round said": told.error.split(":")[0], "answers failed": 0}


def test_a_service_keeps_answering_while_the_registry_fails(tmp_path: Path) -> None:
    from serving_fakes import FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, loader

    registry = FakeRegistry(tmp_path)
    runtime = Runtime(
        registry, FakeJournal(), loader({"first": FakeScorer("first")}), 0.01, None, FakeDecisions(registry)
    )
    registry.serve("1", "first")
    assert runtime.poll()

    def gone() -> None:
        raise PenstockError("the registry is gone")

    registry.champion_pointer = gone  # type: ignore[method-assign,assignment]
    for _ in range(20):
        with pytest.raises(PenstockError):
            registry.champion_pointer()
        with contextlib.suppress(PenstockError):
            runtime.poll()
        assert runtime.current().version == "1"
