"""The service over the real state database, journal and registry; only the model is a fake."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fastapi.testclient import TestClient
from serving_fakes import NOW, FakeScorer

from penstock.data.state import State
from penstock.errors import BundleError
from penstock.records import GateReport, GateResult, Lineage
from penstock.registry.store import Registry
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

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
