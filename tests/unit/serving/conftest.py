import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, PARAMS, FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, World, loader
from whole_bench import Whole, bring_up, weights_digest

from penstock.data.journal import Journal
from penstock.data.posted_items import PostedItems
from penstock.data.state import open_state
from penstock.registry.mlflow_backend import MlflowBackend
from penstock.registry.store import open_registry
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.runtime import Runtime
from penstock.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(PARAMS, {}).override({"service.max_k": 50, "service.max_batch": 5, "service.poll_s": 0.05})


@pytest.fixture
def make_world(tmp_path: Path, settings: Settings) -> Iterator[Callable[..., World]]:
    opened: list[TestClient] = []

    def make(champion: str | None = "first", task: str = "rank", changes: dict | None = None) -> World:
        own = settings.override(changes or {})
        registry, journal = FakeRegistry(tmp_path), FakeJournal()
        scorers = {name: FakeScorer(name, task) for name in ("first", "second")}
        decisions = FakeDecisions(registry)
        posted = PostedItems(open_state(f"sqlite:///{tmp_path}/items.db"))
        runtime = Runtime(registry, journal, loader(scorers), 60.0, None, decisions, lambda: NOW, posted)
        if champion is not None:
            registry.serve("1", champion)
            assert runtime.poll()
        client = TestClient(create_app(runtime, own), raise_server_exceptions=False)
        opened.append(client)
        return World(runtime, registry, journal, scorers, decisions, own, client)

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its migrations take seconds."""
    root = tmp_path_factory.mktemp("migrated")
    changes = {"registry.tracking_uri": f"sqlite:///{root}/mlflow.db", "registry.artifacts": str(root / "artifacts")}
    MlflowBackend(load_settings(PARAMS, {}).override(changes | {"registry.name": "template"}).registry)
    return root / "mlflow.db"


@pytest.fixture
def whole(tmp_path: Path, settings: Settings, migrated: Path) -> Iterator[Whole]:
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    own = settings.override(
        {
            "state.url": f"sqlite:///{tmp_path}/state.db",
            "data.user_key_file": f"{tmp_path}/keys/users.json",
            "registry.tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
            "registry.artifacts": str(tmp_path / "artifacts"),
            "promotion.policy": "manual",
        }
    )
    state = open_state(own.state.url)
    registry = open_registry(own, state, weights_digest)
    journal = Journal(state, own.data)
    decisions = Decisions(registry, state)
    runtime = Runtime(registry, journal, bring_up, 60.0, state, decisions, lambda: NOW)
    client = TestClient(create_app(runtime, own))
    yield Whole(own, state, registry, runtime, client, tmp_path)
    client.close()
    state.engine.dispose()
