"""A loop with a past, for the console: real state database and registry, fake models, and hostile words everywhere."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import sqlalchemy as sa
from fastapi import FastAPI
from serving_fakes import NOW, PARAMS, FakeScorer

from penstock.data.journal import Journal
from penstock.data.state import METADATA, State, open_state, to_micros
from penstock.errors import BundleError
from penstock.records import GateReport, GateResult, Lineage
from penstock.registry.mlflow_backend import MlflowBackend, Point
from penstock.registry.promotion import approve, promote
from penstock.registry.store import Registry, open_registry
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.runtime import Runtime
from penstock.settings import Settings, load_settings

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>'
LEARNED_UNTIL = NOW - timedelta(hours=2)


def empty_mlflow(root: Path) -> Path:
    """An empty MLflow database, to be copied: its migrations take seconds."""
    changes = {"registry.tracking_uri": f"sqlite:///{root}/mlflow.db", "registry.artifacts": str(root / "artifacts")}
    MlflowBackend(load_settings(PARAMS, {}).override(changes | {"registry.name": "template"}).registry)
    return root / "mlflow.db"


def weights_digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / "weights.bin").read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{folder}: {error}") from error


def bring_up(folder: Path) -> FakeScorer:
    scorer = FakeScorer((folder / "weights.bin").read_text(), learned_until=LEARNED_UNTIL)
    scorer.digest = weights_digest(folder)
    first = pl.when(pl.col("item_id") == "i0").then(pl.lit(EVIL)).otherwise(pl.col("title"))
    scorer.items = scorer.items.with_columns(first.alias("title"))
    return scorer


@dataclass
class ConsoleBench:
    """`make` fills it; `app` is the service over it."""

    root: Path
    settings: Settings
    state: State
    registry: Registry
    runtime: Runtime
    app: FastAPI

    def insert(self, table: str, **values: object) -> None:
        with self.state.write() as conn:
            conn.execute(sa.insert(METADATA.tables[table]).values(**values))

    def snapshot(self, name: str, status: str, closed: datetime, rows: int = 100, bad: int = 0) -> None:
        counts = {"impression": rows * 8 // 10, "click": rows // 10, "purchase": rows // 10}
        manifest = {
            "snapshot_id": name, "sha256": "d" * 64, "rows": rows, "counts_by_kind": counts,
            "window_start": (closed - timedelta(minutes=10)).isoformat(), "window_end": closed.isoformat(),
            "watermark": closed.isoformat(), "late_rows": rows // 4, "quarantined_rows": bad,
            "path": f"{self.root}/{name}/events.parquet", "dvc_md5": None,
        }  # fmt: skip
        at = to_micros(closed)
        self.insert("snapshots", snapshot_id=name, status=status, manifest=json.dumps(manifest), window_end=at,
                    created_at=at)  # fmt: skip

    def events(self, snapshot: str | None, received: datetime, count: int = 2) -> None:
        for number in range(count):
            at, name = to_micros(received), f"e-{snapshot}-{number}"
            self.insert("events", event_id=name, user_id="u1", item_id=f"i{number}", kind="click", at=at,
                        received_at=at, snapshot_id=snapshot)  # fmt: skip

    def round(self, name: str, snapshot: str, outcome: str, version: str | None, ended: datetime, reason: str) -> None:
        result = {"reason": reason, "metrics": {"loss": 1.25}, "stages_s": {"learning": 4.0, "export": 2.0}}
        self.insert("rounds", round_id=name, snapshot_id=snapshot, status="done", outcome=outcome, version=version,
                    result=json.dumps(result), started_at=to_micros(ended - timedelta(seconds=30)),
                    ended_at=to_micros(ended))  # fmt: skip

    def register(self, name: str, snapshot: str, fresh: float, stale: float | None, passed: bool = True) -> str:
        export = self.root / f"export-{name}"
        export.mkdir()
        (export / "weights.bin").write_text(name)
        champion, digest = self.registry.champion_pointer(), weights_digest(export)
        gates = (
            GateResult("ndcg_vs_champion", "ndcg@10", "all", ">=", -0.01, 0.02, -0.005, 0.04, passed, EVIL),
            GateResult("ndcg_new_users", "ndcg@10", "new users", ">=", -0.05, 0.01, -0.02, 0.03, True, "of a slice"),
        )
        means = {
            who: {"ndcg@10": {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}}
            for who, mean in (("challenger", fresh), ("champion", stale))
            if mean is not None
        }
        report = GateReport(digest, champion.digest if champion else None, snapshot, NOW.isoformat(), 200, 50, gates,
                            {"means": means})  # fmt: skip
        run = self.registry.backend.start_run(name, ("penstock.round_id", name))
        self.registry.backend.log_metrics(run, [Point("loss", 3.0 - step, step, 1_000 + step) for step in range(3)])
        parent = champion.number if champion else None
        lineage = Lineage(
            "rank", name, snapshot, "d" * 64, parent, "c" * 40, "p" * 64, 7, LEARNED_UNTIL, {"numpy": "2"}
        )
        return self.registry.register(export, report, lineage, {}, run_id=run, now=NOW).number

    def serve(self, number: str, at: datetime) -> None:
        pointer = self.registry.champion_pointer()
        approve(self.registry, self.state, number, "Ada", f"looked at {EVIL}", at)
        promote(self.registry, self.state, number, "Ada", f"looked at {EVIL}", pointer and pointer.number, at)


def make(root: Path, mlflow: Path, clock: Callable[[], datetime] = lambda: NOW) -> ConsoleBench:
    """An empty loop."""
    (root / "mlflow.db").write_bytes(mlflow.read_bytes())
    settings = load_settings(PARAMS, {}).override(
        {
            "state.home": str(root),
            "state.url": f"sqlite:///{root}/state.db",
            "data.user_key_file": f"{root}/keys/users.json",
            "registry.tracking_uri": f"sqlite:///{root}/mlflow.db",
            "registry.artifacts": str(root / "artifacts"),
            "promotion.policy": "manual",
            "rollout.check_s": 0,
        }
    )
    state = open_state(settings.state.url)
    registry = open_registry(settings, state, weights_digest)
    decisions = Decisions(registry, state)
    runtime = Runtime(registry, Journal(state, settings.data), bring_up, 0.2, state, decisions, clock)
    return ConsoleBench(root, settings, state, registry, runtime, create_app(runtime, settings))


def with_a_past(bench: ConsoleBench) -> ConsoleBench:
    """Version 1 serves, version 2 was refused, version 3 waits, one snapshot is in quarantine."""
    ago = [NOW - timedelta(minutes=minutes) for minutes in (60, 50, 40, 30)]
    bench.snapshot("s1", "learned", ago[0])
    bench.events("s1", ago[0] - timedelta(seconds=100))
    first = bench.register("r-s1", "s1", 0.61, None)
    bench.round("r-s1", "s1", "waiting", first, ago[0] + timedelta(seconds=40), "all gates passed; waits for approval")
    bench.serve(first, ago[0] + timedelta(seconds=60))
    bench.snapshot("s2", "quarantined", ago[1])
    bench.events("s2", ago[1], 3)
    bench.round("r-s2", "s2", "quarantined", None, ago[1], f"snapshot s2 refused: {EVIL}")
    bench.insert("quarantine", snapshot_id="s2", reasons=json.dumps([f"bad rows {EVIL}"]), created_at=to_micros(ago[1]),
                 status="held")  # fmt: skip
    for name, outcome, closed, fresh in (("s3", "refused", ago[2], 0.50), ("s4", "waiting", ago[3], 0.66)):
        bench.snapshot(name, "learned", closed, bad=5)
        number = bench.register(f"r-{name}", name, fresh, 0.62, outcome != "refused")
        bench.round(f"r-{name}", name, outcome, number, closed + timedelta(seconds=40), "gates")
    bench.events(None, NOW - timedelta(minutes=5), 1)
    docs = bench.root / "rounds" / "r-s1" / "data-docs"
    docs.mkdir(parents=True)
    (docs / "index.html").write_text("<h1>Data Docs of s1</h1>")
    assert bench.runtime.poll()
    return bench
