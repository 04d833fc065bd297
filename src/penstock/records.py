"""The records that pass between the layers: columns of the tables, and small frozen values.

Tables are polars frames whose columns are declared here once; values are frozen dataclasses.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

import polars as pl

AT = pl.Datetime("us", "UTC")

EVENT_COLUMNS: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "kind": pl.String(),
    "at": AT,
    "value": pl.Float64(),
    "request_id": pl.String(),
    "position": pl.Int32(),
    "propensity": pl.Float64(),
    "query": pl.String(),
    "received_at": AT,
}
"""One row per event. `value`: rating or amount; `position`: 0-based rank shown; `query`: free text that was asked."""

EVENT_REQUIRED = ("event_id", "user_id", "item_id", "kind", "at", "received_at")

CATALOGUE_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "body": pl.String(),
    "category": pl.String(),
    "published_at": AT,
    "attributes": pl.String(),
    "vector": pl.List(pl.Float32()),
}
"""One row per item. `attributes`: a JSON object; `vector`: an image or other external embedding."""

CATALOGUE_REQUIRED = ("item_id", "title")

REQUEST_COLUMNS: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "user_id": pl.String(),
    "at": AT,
    "query": pl.String(),
    "shown": pl.List(pl.String()),
    "relevant": pl.List(pl.String()),
    "gain": pl.List(pl.Float32()),
    "position": pl.List(pl.Int32()),
}
"""One row per request. `shown` is empty where only positives are logged; `gain` aligns with `relevant`,
`position` with `shown`."""

Task = Literal["rank", "classify"]
Outcome = Literal["promoted", "waiting", "refused", "quarantined", "failed", "skipped"]


@dataclass(frozen=True)
class SnapshotManifest:
    """An immutable window of events. `sha256` is of the Parquet file; times are UTC ISO-8601.

    `content_sha256` is of the events without the times they were received at, so it is the same in whatever order and
    however often they came; `dvc_md5` is the hash that DVC gives the Parquet file.
    """

    snapshot_id: str
    sha256: str
    rows: int
    counts_by_kind: dict[str, int]
    window_start: str
    window_end: str
    watermark: str
    late_rows: int
    quarantined_rows: int
    path: str
    dvc_md5: str | None = None
    content_sha256: str = ""


@dataclass(frozen=True)
class GateResult:
    """One measured condition. `low`/`high`: the interval of `observed`, None where it is not a sample.

    `slice`: which requests it was measured on, "all" or the name of a part. The interval of a comparison holds at the
    set confidence and at the round's own level; `detail` says both.
    """

    name: str
    metric: str
    slice: str
    comparison: Literal[">=", "<="]
    threshold: float
    observed: float
    low: float | None
    high: float | None
    passed: bool
    detail: str


@dataclass(frozen=True)
class GateReport:
    """All gates of one challenger against one champion."""

    challenger_digest: str
    champion_digest: str | None
    snapshot_id: str
    created_at: str
    requests: int
    users: int
    gates: tuple[GateResult, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True when there is at least one gate and every gate passed."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Names of the gates that refused, with their slice where that is not all requests."""
        named = ((gate.name, gate.slice) for gate in self.gates if not gate.passed)
        return tuple(name if part == "all" else f"{name} ({part})" for name, part in named)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, verdict included."""
        return asdict(self) | {"passed": self.passed, "refusals": list(self.refusals)}

    @property
    def digest(self) -> str:
        """sha256 hex of the report's content, a number that is not finite counted as null; an approval binds to it."""
        content = json.dumps(plain_json(self.to_json()), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()


def plain_json(value: Any) -> Any:
    """`value` as JSON can hold it: array and numpy values unwrapped, a number that is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Lineage:
    """Where a bundle comes from.

    `data_sha256`: of its own snapshot. `data_md5`: the hash that DVC gives to all snapshots it has taken in.
    """

    task: Task
    round_id: str
    snapshot_id: str
    data_sha256: str
    parent_version: str | None
    git_commit: str
    params_sha256: str
    seed: int
    learned_until: datetime
    libraries: dict[str, str]
    data_md5: str | None = None


@dataclass(frozen=True)
class RoundResult:
    """What one round came to. `stages_s`: seconds by stage; `metrics`: prequential scores and losses."""

    round_id: str
    snapshot_id: str
    outcome: Outcome
    version: str | None
    bundle_digest: str | None
    reason: str
    stages_s: dict[str, float]
    metrics: dict[str, float]
