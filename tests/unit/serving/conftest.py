from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, PARAMS, FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, World, loader

from penstock.serving.app import create_app
from penstock.serving.runtime import Runtime
from penstock.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(PARAMS, {}).override({"service.max_k": 50, "service.max_batch": 5, "service.poll_s": 0.05})


@pytest.fixture
def make_world(tmp_path: Path, settings: Settings) -> Iterator[Callable[..., World]]:
    opened: list[TestClient] = []

    def make(champion: str | None = "first", task: str = "rank") -> World:
        registry, journal = FakeRegistry(tmp_path), FakeJournal()
        scorers = {name: FakeScorer(name, task) for name in ("first", "second")}
        decisions = FakeDecisions(registry)
        runtime = Runtime(registry, journal, loader(scorers), 60.0, None, decisions, lambda: NOW)
        if champion is not None:
            registry.serve("1", champion)
            assert runtime.poll()
        client = TestClient(create_app(runtime, settings), raise_server_exceptions=False)
        opened.append(client)
        return World(runtime, registry, journal, scorers, decisions, settings, client)

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
