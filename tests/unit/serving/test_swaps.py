"""Twenty swaps under load, one in ten of a bad bundle: no request fails, no answer is mixed, nothing old stays."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fastapi.testclient import TestClient
from serving_fakes import NOW, FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, World, digest_of

from penstock.errors import BundleError
from penstock.inference.scorer import Scored
from penstock.serving.app import create_app
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

SWAPS, BAD = 20, 10


def wait_for(answers: list[Any], count: int) -> None:
    """Until so many are there, however slow the machine is."""
    until_s = time.monotonic() + 60
    while len(answers) < count and time.monotonic() < until_s:
        time.sleep(0.005)


def marked(name: str) -> FakeScorer:
    """A scorer whose titles say which version it is."""
    scorer = FakeScorer(name)
    scorer.items = scorer.items.with_columns(title=pl.lit(f"of {name}"))
    return scorer


def test_twenty_swaps_under_load(tmp_path: Path, settings: Settings) -> None:
    alive: list[weakref.ref[FakeScorer]] = []

    def load(folder: Path) -> FakeScorer:
        if folder.name.startswith("torn"):
            raise BundleError(f"{folder.name}: rank.onnx has another sha256 than the manifest says")
        scorer = marked(folder.name)
        alive.append(weakref.ref(scorer))
        return scorer

    registry = FakeRegistry(tmp_path)
    runtime = Runtime(registry, FakeJournal(), load, 60.0, None, FakeDecisions(registry), lambda: NOW)
    registry.serve("1", "v1")
    assert runtime.poll()
    client = TestClient(create_app(runtime, settings), raise_server_exceptions=False)
    answers: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(client.post("/v1/recommendations", json={"user_id": "u1", "k": 3}))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, SWAPS + 2):
        registry.serve(str(number), f"torn{number}" if number % BAD == 0 else f"v{number}")
        assert runtime.poll() == (number % BAD != 0)
        wait_for(answers, len(answers) + 3)
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    assert {answer.status_code for answer in answers} == {200}
    bodies = [answer.json() for answer in answers]
    assert len({body["version"] for body in bodies}) > 3, "answers of several versions were looked at"
    for body in bodies:
        name = f"v{body['version']}"
        assert body["digest"] == digest_of(name)
        assert {item["title"] for item in body["items"]} == {f"of {name}"}, "every item is of the version named"
    assert (runtime.counts.swapped, runtime.counts.failed) == (SWAPS + 1 - SWAPS // BAD, SWAPS // BAD)
    gc.collect()
    assert sum(one() is not None for one in alive) == 1, "every scorer but the one that serves was let go"


def test_a_bundle_with_scores_that_are_none_never_serves(make_world: Callable[..., World]) -> None:
    world = make_world()

    def no_number(user: Any, candidates: list[str], at: Any, k: int) -> list[Scored]:
        return [Scored(item, float("nan")) for item in candidates]

    world.scorers["second"].rank = no_number  # type: ignore[method-assign]
    world.registry.serve("2", "second")
    assert not world.runtime.poll()
    assert world.runtime.current().version == "1"
    assert world.runtime.failure is not None
    assert "16 of 16 scores of the warm-up are not finite" in world.runtime.failure.error
    labels = make_world(task="classify")
    labels.scorers["second"].classify = lambda texts: np.full((len(texts), 2), np.nan)  # type: ignore[method-assign]
    labels.registry.serve("2", "second")
    assert not labels.runtime.poll()
    assert labels.runtime.current().version == "1"


def test_a_service_without_a_state_database_has_no_chores() -> None:
    from penstock.serving.keeper import Keeper

    keeper = Keeper([], lambda: NOW)
    keeper.start()
    assert keeper._thread is None
    keeper.stop()
