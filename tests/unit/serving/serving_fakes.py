"""Small stand-ins for the layers below the service: deterministic, in memory, with the real causal state inside."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from fastapi.testclient import TestClient

from penstock.errors import ApprovalError, BundleError, RegistryError
from penstock.features.history import EMPTY, History
from penstock.features.state import CausalState, FeatureSpec, seconds
from penstock.inference.scorer import RowScores, Scored, UserContext
from penstock.records import AT, EVENT_COLUMNS, GateReport, GateResult
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

PARAMS = Path(__file__).parents[3] / "params.yaml"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KINDS = {"impression": 0.0, "click": 1.0, "purchase": 3.0, "rating": 1.0}
SPEC = FeatureSpec((1.0, 24.0), 240.0, 2400.0, 20, tuple(KINDS), tuple(KINDS.values()), 4.0, True)
CATEGORIES = ("outdoor", "kitchen", "books")
WORDS = ("Featherlight rain jacket", "Cast-iron pan, 26 cm", "A field guide to mosses", "Merino hiking socks",
         "Bread knife with a beech handle", "The lighthouse keeper's atlas", "Two-person dome tent", "Copper kettle",
         "Essays on rivers", "Head torch, rechargeable", "Stoneware bowl set", "Night trains of Europe")  # fmt: skip


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def event(number: int, user: str = "u1", item: str = "i1", kind: str = "click", at: datetime = NOW) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "kind": kind, "at": at.isoformat()}


class FakeScorer:
    """Ranks by recent positives, then by what goes together with the history, then by item order."""

    labels = ("calm", "stormy")

    def __init__(self, name: str, task: str = "rank", items: int = 24, learned_until: datetime = NOW) -> None:
        self.digest, self.task, self.learned_until = digest_of(name), task, learned_until.isoformat()
        self.labels = ["calm", "stormy"]
        self.seen: list[str] = []
        self.items = pl.DataFrame(
            {
                "item_id": [f"i{row}" for row in range(items)],
                "title": [WORDS[row % len(WORDS)] for row in range(items)],
                "category": [CATEGORIES[row % 3] for row in range(items)],
                "published_at": [NOW - timedelta(hours=row + 1) for row in range(items)],
            },
            schema_overrides={"published_at": AT},
        )
        self.state = CausalState(SPEC)
        self.state.add_items(self.items)

    def encode_items(self, catalogue: pl.DataFrame) -> np.ndarray:
        return np.ones((len(catalogue), 3), np.float32)

    def add_items(self, catalogue: pl.DataFrame, vector_BE: np.ndarray | None = None) -> int:
        fresh = catalogue.filter(~pl.col("item_id").is_in(self.state.items))
        self.state.add_items(fresh)
        self.items = pl.concat([self.items, fresh.select(self.items.columns)])
        return len(fresh)

    def directions(self, row_C: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[row_C % 3]

    def observe(self, events: pl.DataFrame) -> None:
        assert events.columns == list(EVENT_COLUMNS)
        self.seen += events["event_id"].to_list()
        self.state.observe(events)

    def history_of(self, user: UserContext) -> History:
        if user.history is None:
            return self.state.histories.of(user.user_id or "")
        kinds = {kind: index for index, kind in enumerate(SPEC.kinds)}
        past = sorted(user.history, key=lambda row: row[2])
        if not past:
            return EMPTY
        rows = np.array([self.state.row_of[item] for item, _, _ in past], np.int64)
        kind_L = np.array([kinds.get(kind, 0) for _, kind, _ in past], np.int64)
        return History(rows, kind_L, np.array([seconds(at) for _, _, at in past]))

    def rank(self, user: UserContext, candidates: list[str] | None, at: datetime, k: int) -> list[Scored]:
        names = self.state.items if candidates is None else candidates
        scored = self.score(user, np.array([self.state.row_of[name] for name in names], np.int64), at)
        order = np.argsort(-scored.score_C, kind="stable")[:k]
        return [Scored(names[c], float(scored.score_C[c])) for c in order]

    def score(
        self,
        user: UserContext,
        row_C: np.ndarray,
        at: datetime,
        user_E: np.ndarray | None = None,
        feature_CF: np.ndarray | None = None,
    ) -> RowScores:
        if feature_CF is None:
            feature_CF = self.state.features(self.history_of(user), row_C, seconds(at))
        columns = [SPEC.names.index(name) for name in ("popularity_24h", "cooccurrence_cosine", "category_affinity")]
        score_C = feature_CF[:, columns] @ np.array([1.0, 2.0, 3.0]) - row_C * 1e-3
        return RowScores(row_C, score_C, feature_CF, SPEC.names)

    def describe(self, row: int) -> dict[str, Any]:
        return {name: self.items[name][row] for name in ("item_id", "title", "category")}

    def user_vector(self, history: History, at_s: float) -> np.ndarray:
        return np.bincount(history.row_L % 3, minlength=3).astype(np.float32)

    def nearest(self, vector_E: np.ndarray, count: int) -> np.ndarray:
        score_N = vector_E[np.arange(len(self.state.items)) % 3]
        return np.argsort(-score_N, kind="stable")[:count]

    def similar(self, item_id: str, k: int) -> list[tuple[str, float]]:
        row = self.state.row_of[item_id]
        others = [other for other in range(len(self.state.items)) if other != row and other % 3 == row % 3]
        return [(f"i{other}", 1.0 - 0.01 * abs(other - row)) for other in others[:k]]

    def classify(self, texts: list[str]) -> np.ndarray:
        stormy_B = np.array([0.9 if "storm" in text else 0.2 for text in texts], np.float32)
        return np.stack([1 - stormy_B, stormy_B], axis=1)


@dataclass
class Accepted:
    accepted: int = 0
    duplicates: int = 0
    rejected: list[tuple[int, str | None, str]] = field(default_factory=list)


class FakeJournal:
    name_of = staticmethod(str)

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def append(self, events: list[dict[str, Any]], now: datetime) -> Accepted:
        result = Accepted()
        for index, item in enumerate(events):
            if item["kind"] not in KINDS:
                result.rejected.append((index, item["event_id"], f"unknown kind {item['kind']!r}"))
            elif any(row["event_id"] == item["event_id"] for row in self.rows):
                result.duplicates += 1
            else:
                row = {name: item.get(name) for name in EVENT_COLUMNS}
                self.rows.append(row | {"received_at": now, "seq": len(self.rows) + 1})
                result.accepted += 1
        return result

    def read(self, since_seq: int, limit: int) -> pl.DataFrame:
        rows = [row for row in self.rows if row["seq"] > since_seq][:limit]
        return pl.DataFrame(rows, schema={"seq": pl.Int64(), **EVENT_COLUMNS})

    def pending(self) -> int:
        return len(self.rows)


class Pointer(NamedTuple):
    number: str
    digest: str
    bundle_dir: Path


@dataclass
class FakeVersion:
    number: str
    digest: str
    status: str
    created_at: datetime = NOW - timedelta(minutes=7)


class FakeRegistry:
    """Versions by number; the pointer is whatever `serve` was last called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pointer: Pointer | None = None
        self.known: dict[str, FakeVersion] = {}

    def add(self, number: str, name: str, status: str = "challenger") -> None:
        self.known[number] = FakeVersion(number, digest_of(name), status)
        (self.folder / name).mkdir(exist_ok=True)

    def serve(self, number: str, name: str) -> None:
        if number not in self.known:
            self.add(number, name)
        self.known[number].status = "champion"
        self.pointer = Pointer(number, digest_of(name), self.folder / name)

    def champion_pointer(self) -> Pointer | None:
        return self.pointer

    def champion(self) -> FakeVersion | None:
        return None if self.pointer is None else self.known[self.pointer.number]

    def challengers(self) -> list[FakeVersion]:
        return [version for version in self.known.values() if version.status == "challenger"]

    def version(self, number: str) -> FakeVersion:
        if number not in self.known:
            raise RegistryError(f"no version {number!r}")
        return self.known[number]

    def binding(self, version: FakeVersion) -> str:
        return digest_of(f"{version.number} against {self.pointer}")

    def report_dir(self, version: FakeVersion) -> Path:
        return self.folder / f"report-{version.number}"

    def gate_report(self, version: FakeVersion) -> GateReport:
        gates = (
            GateResult("ndcg", "ndcg@10", "all", ">=", -0.01, 0.0213, 0.0051, 0.0374, True, "against version 3"),
            GateResult("auc", "auc", "all", ">=", -0.01, 0.0042, -0.0049, 0.0128, True, "against version 3"),
            GateResult("log_loss", "log_loss", "all", "<=", 0.05, -0.0120, -0.0302, 0.0061, True, "against version 3"),
            GateResult("parity", "parity_error", "all", "<=", 0.001, 3.5e-7, None, None, True, "torch and onnxruntime"),
            GateResult("latency", "latency_ms", "all", "<=", 50.0, 11.4, None, None, True, "200 candidates, median"),
        )
        return GateReport(version.digest, None, "s-0009", NOW.isoformat(), 412, 188, gates)


class FakeDecisions:
    def __init__(self, registry: FakeRegistry) -> None:
        self.registry, self.made = registry, []

    def approve(self, number: str, actor: str, reason: str, now: datetime, *seen: object) -> None:
        version = self.registry.version(number)
        if version.status != "challenger":
            raise ApprovalError(f"version {number} does not wait for a decision, it is {version.status}")
        self.made.append((number, "approve", actor, reason))
        for other in self.registry.known.values():
            other.status = "retired" if other.status == "champion" else other.status
        name = next(path.name for path in self.registry.folder.iterdir() if digest_of(path.name) == version.digest)
        self.registry.serve(number, name)

    def reject(self, number: str, actor: str, reason: str, now: datetime, *seen: object) -> None:
        self.registry.version(number).status = "rejected"
        self.made.append((number, "reject", actor, reason))


def loader(scorers: dict[str, FakeScorer]) -> Callable[[Path], FakeScorer]:
    """A `load` that brings up the scorer named like the folder, and refuses any other."""

    def load(folder: Path) -> FakeScorer:
        if folder.name not in scorers:
            raise BundleError(f"{folder.name}: rank.onnx has another sha256 than the manifest says")
        return scorers[folder.name]

    return load


@dataclass
class World:
    """A service over fakes."""

    runtime: Runtime
    registry: FakeRegistry
    journal: FakeJournal
    scorers: dict[str, FakeScorer]
    decisions: FakeDecisions
    settings: Settings
    client: TestClient
