"""The service over the real state database, journal and registry; only the model is a fake."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, PARAMS, FakeScorer, event

from penstock.data.journal import Journal
from penstock.data.state import State, open_state
from penstock.errors import BundleError
from penstock.records import GateReport, GateResult, Lineage
from penstock.registry.mlflow_backend import MlflowBackend
from penstock.registry.promotion import approve, promote
from penstock.registry.store import Registry, open_registry
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.runtime import Runtime
from penstock.settings import Settings, load_settings

LEARNED_UNTIL = NOW - timedelta(hours=2)


def weights_digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / "weights.bin").read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{folder}: {error}") from error


@dataclass
class Whole:
    settings: Settings
    state: State
    registry: Registry
    runtime: Runtime
    client: TestClient
    root: Path

    def register(self, name: str) -> str:
        export = self.root / f"export-{name}"
        export.mkdir()
        (export / "weights.bin").write_text(name)
        champion = self.registry.champion_pointer()
        gate = GateResult("ndcg", "ndcg@10", "all", ">=", -0.01, 0.02, -0.005, 0.04, True, "paired bootstrap")
        digest = weights_digest(export)
        report = GateReport(digest, champion.digest if champion else None, "s1", NOW.isoformat(), 200, 50, (gate,))
        pages = self.root / f"pages-{name}"
        pages.mkdir()
        (pages / "gate-report.html").write_text(f"<h1>{name}</h1>")
        lineage = Lineage("rank", name, "s1", "d" * 64, None, "c" * 40, "p" * 64, 7, LEARNED_UNTIL, {})
        return self.registry.register(export, report, lineage, {}, report_dir=pages, now=NOW).number


def bring_up(folder: Path) -> FakeScorer:
    scorer = FakeScorer((folder / "weights.bin").read_text(), learned_until=LEARNED_UNTIL)
    scorer.digest = weights_digest(folder)
    return scorer


@pytest.fixture(scope="module")
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


def test_from_the_first_event_to_the_second_version(whole: Whole) -> None:
    client = whole.client
    first = whole.register("one")
    approve(whole.registry, whole.state, first, "Ada", "the first one", NOW)
    promote(whole.registry, whole.state, first, "Ada", "the first one", None, NOW)
    early = event(0, at=NOW - timedelta(hours=1))
    assert client.post("/v1/events", json=early).json()["accepted"] == 1
    assert client.get("/readyz").status_code == 503
    assert whole.runtime.poll()
    assert client.get("/readyz").json()["version"] == first

    batch = {"events": [event(1), event(1), event(2, kind="stare"), event(3, at=NOW + timedelta(hours=1))]}
    answer = client.post("/v1/events", json=batch).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert [row["index"] for row in answer["rejected"]] == [2, 3]
    assert "clock" in answer["rejected"][1]["reason"]
    served = whole.runtime.current().scorer
    assert isinstance(served, FakeScorer)
    assert served.seen == ["e0", "e1"], "what came before the load, and after it"

    second = whole.register("two")
    (challenger,) = client.get("/v1/challengers").json()["challengers"]
    assert (challenger["number"], challenger["passed"]) == (second, True)
    assert client.get(challenger["report"]).text == "<h1>two</h1>"
    decided = client.post(f"/v1/challengers/{second}/approve", json={"actor": "Grace", "reason": "better"}).json()
    assert decided["version"] == second
    again = client.post(f"/v1/challengers/{second}/approve", json={"actor": "Grace", "reason": "better"})
    assert again.status_code == 409

    status = client.get("/v1/status").json()["status"]
    assert status["champion"]["version"] == second
    assert status["champion"]["data_sha256"] == "d" * 64
    assert status["service"]["version"] == second
    assert status["events"] == {"pending": 2, "total": 2}
    assert status["challengers"] == []
    assert "penstock_events_pending 2.0" in client.get("/metrics").text


def test_a_requester_cannot_approve_its_own_and_a_rejection_is_final(whole: Whole) -> None:
    number = whole.register("one")
    path = f"/v1/challengers/{number}"
    own = whole.client.post(f"{path}/approve", json={"actor": "penstock", "reason": "mine"})
    assert own.status_code == 409
    assert "somebody else" in own.json()["error"]["message"]
    assert whole.client.post(f"{path}/reject", json={"actor": "Ada", "reason": "odd"}).status_code == 200
    late = whole.client.post(f"{path}/approve", json={"actor": "Ada", "reason": "changed my mind"})
    assert late.status_code == 409
    assert whole.registry.champion_pointer() is None


def test_an_altered_bundle_leaves_the_old_version_serving(whole: Whole) -> None:
    number = whole.register("one")
    whole.runtime.decisions.approve(number, "Ada", "first", NOW)
    whole.runtime.poll()
    second = whole.register("two")
    whole.runtime.decisions.approve(second, "Ada", "second", NOW)
    folder = whole.registry.bundle_dir(whole.registry.version(second))
    (folder / "weights.bin").write_text("tampered")
    whole.runtime.poll()
    service = whole.client.get("/v1/status").json()["status"]["service"]
    assert (service["version"], service["failed"]) == (number, 1)
    assert "expects" in service["failure"]["error"]
    assert whole.client.post("/v1/recommendations", json={}).json()["version"] == number
