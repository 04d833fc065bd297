"""The registry's database is locked or gone: the service answers, nothing is promoted by half, all resumes."""

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fault_trials import Trials
from fault_world import World

from penstock.errors import PenstockError
from penstock.inference.scorer import Scorer
from penstock.registry.store import open_registry
from penstock.serving.app import create_app, open_runtime
from penstock.serving.runtime import Runtime

ASK_EVERY_S, EVENT_EVERY, TRY_EVERY_S = 0.1, 20, 20.0


def database(world: World) -> Path:
    return Path(world.settings.registry.tracking_uri.removeprefix("sqlite:///"))


class Asking(threading.Thread):
    """A service over the world's registry, asked for recommendations and told of events until `stop`."""

    def __init__(self, world: World) -> None:
        super().__init__(name="asking")
        self.world, self.statuses, self.versions = world, Counter[int](), Counter[str]()
        self._stop_asking = threading.Event()
        self._at: datetime = world.shop.dataset.events["at"].min()

    def run(self) -> None:
        runtime = open_runtime(self.world.settings)
        users = Scorer.load(runtime.registry.champion_pointer().bundle_dir).state.histories.users()
        with TestClient(create_app(runtime, self.world.settings), base_url="http://localhost") as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.05)
            number = 0
            while not self._stop_asking.wait(ASK_EVERY_S):
                number += 1
                if number % EVENT_EVERY == 0:
                    self._tell(client, number, users[number % len(users)])
                    continue
                answer = client.post("/v1/recommendations", json={"user_id": users[number % len(users)], "k": 3})
                self.statuses[answer.status_code] += 1
                self.versions[str(answer.json()["version"])] += 1

    def _tell(self, client: TestClient, number: int, user: str) -> None:
        items = self.world.shop.dataset.catalogue["item_id"]
        event = {
            "event_id": f"asked-{number}", "user_id": user, "kind": "click", "at": self._at.isoformat(),
            "item_id": items[number % len(items)],
        }  # fmt: skip
        self.world.sent.add(event["event_id"])
        answer = client.post("/v1/events", json=event)
        self.statuses[answer.status_code] += 1
        if answer.json().get("accepted") == 1:
            self.world.acknowledged.add(event["event_id"])

    def stop(self) -> None:
        self._stop_asking.set()
        self.join()


@contextlib.contextmanager
def asking(world: World) -> Iterator[Asking]:
    thread = Asking(world)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def test_a_locked_registry_is_waited_for_or_told(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    locked_s = trials(2, 60)
    with asking(world) as service:
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
        assert told.error.startswith("RegistryError"), told
        assert "locked" in told.error, told
    assert set(service.statuses) == {200, 202}, service.statuses
    world.check()
    world.settle()
    world.check_settled()
    figures["registry locked"] = {
        "locked, s": locked_s, "the round": told.error or told.outcomes or "", "took, s": round(took_s, 1),
        "answers": sum(service.statuses.values()), "answers failed": 0,
    }  # fmt: skip


def test_a_registry_that_is_gone_stops_rounds_not_answers(
    world: World, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    gone_s, path, said = trials(2, 600), database(world), Counter[str]()
    away = path.with_suffix(".away")
    before = served(world)
    with asking(world) as service:
        path.rename(away)
        path.mkdir()  # a folder in its place: nothing can be opened there
        try:
            began, rounds = time.monotonic(), 0
            while not rounds or time.monotonic() - began < gone_s:
                told = world.child(send=not rounds)
                assert told.code == 0, told
                assert told.error, "a round without a registry said nothing"
                said[told.error.split(":")[0]] += 1
                assert "RegistryError" in said, said
                assert served(world) == before, "the champion is the state database's, and still serves"
                rounds += 1
                time.sleep(min(TRY_EVERY_S, max(0.0, gone_s - (time.monotonic() - began))))
        finally:
            path.rmdir()
            away.rename(path)
    assert set(service.statuses) == {200, 202}, service.statuses
    assert len(service.versions) == 1, service.versions
    world.settle()
    world.check_settled()
    figures["registry gone"] = {
        "gone, s": gone_s, "rounds said": dict(said), "answers": sum(service.statuses.values()), "answers failed": 0,
    }  # fmt: skip


def served(world: World) -> tuple[str, str]:
    """Number and digest of the champion, whose bundle must be whole."""
    pointer = open_registry(world.settings, world.state()).champion_pointer()
    assert pointer is not None
    assert Scorer.load(pointer.bundle_dir).digest == pointer.digest
    return pointer.number, pointer.digest


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
