import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from serving_fakes import NOW, FakeRegistry

from penstock.data.state import METADATA, State, open_state
from penstock.registry.tables import promotions, to_micros
from penstock.serving.status import status
from penstock.settings import Settings


@dataclass
class LineageRegistry:
    """A registry whose champion has a lineage."""

    inner: FakeRegistry

    def champion(self) -> Any:
        version = self.inner.champion()
        if version is None:
            return None
        lineage = SimpleNamespace(data_sha256="d" * 64, learned_until=NOW - timedelta(hours=1))
        return SimpleNamespace(**vars(version), lineage=lineage)

    def challengers(self) -> list[Any]:
        return self.inner.challengers()

    def history(self) -> list[Any]:
        return [SimpleNamespace(number="1", at=NOW - timedelta(minutes=2))]


def opened(folder: Path) -> State:
    state = open_state(f"sqlite:///{folder / 'state.db'}")
    state.ensure()
    return state


def insert(state: State, table: str, **values: Any) -> None:
    with state.write() as conn:
        conn.execute(sa.insert(METADATA.tables[table]).values(**values))


def test_an_empty_loop_says_so(tmp_path: Path, settings: Settings) -> None:
    found = status(opened(tmp_path), LineageRegistry(FakeRegistry(tmp_path)), settings, NOW)
    assert found["champion"] is None
    assert found["freshness_s"] is None
    assert found["rounds"] == {}
    assert found["snapshots"] == {"accepted": 0, "quarantined": 0, "by_status": {}}
    assert found["events"] == {"pending": 0, "total": 0}
    assert found["challengers"] == []
    json.dumps(found, allow_nan=False)


def test_a_running_loop_at_a_glance(tmp_path: Path, settings: Settings) -> None:
    state, registry = opened(tmp_path), FakeRegistry(tmp_path)
    registry.serve("1", "first")
    registry.add("2", "second")
    for number, name in enumerate(("learned", "closed", "quarantined", "open")):
        insert(state, "snapshots", snapshot_id=f"s{number}", status=name, manifest="{}",
               window_end=to_micros(NOW), created_at=to_micros(NOW))  # fmt: skip
    for number, (snapshot, received_s) in enumerate((("s0", 100), ("s0", 300), (None, 0))):
        at = to_micros(NOW - timedelta(seconds=120 + received_s))
        row = {"event_id": f"e{number}", "user_id": "u", "item_id": "i", "kind": "click", "at": at, "received_at": at}
        insert(state, "events", **row, snapshot_id=snapshot)
    times = {"started_at": to_micros(NOW - timedelta(minutes=3)), "ended_at": to_micros(NOW)}
    result = json.dumps({"reason": "gates pass"})
    insert(state, "rounds", round_id="r0", snapshot_id="s0", status="done", outcome="promoted", version="1",
           result=result, **times)  # fmt: skip
    insert(state, "rounds", round_id="r1", snapshot_id="s1", status="running", started_at=to_micros(NOW))
    with state.write() as conn:
        promoted = {"environment": "local", "number": "1", "digest": "d", "kind": "promote", "actor": "Ada"}
        at = to_micros(NOW - timedelta(minutes=2))
        conn.execute(sa.insert(promotions).values(**promoted, reason="good", token=1, at=at))
    bad = {"event": json.dumps({"item_id": "i9"}), "reasons": json.dumps(["unknown item"])}
    insert(state, "quarantine", snapshot_id="s2", **bad, created_at=to_micros(NOW), status="held")
    found = status(state, LineageRegistry(registry), settings, NOW)
    assert found["champion"]["version"] == "1"
    assert (found["champion"]["age_s"], found["champion"]["since_s"]) == (420.0, 120.0)
    assert found["champion"]["data_sha256"] == "d" * 64
    assert found["freshness_s"] == 200.0, "accepted 100 and 300 s before the promotion"
    assert found["rounds"] == {"promoted": 1}
    assert [(r["round_id"], r["status"], r["reason"]) for r in found["recent_rounds"]] == [
        ("r1", "running", ""),
        ("r0", "done", "gates pass"),
    ]
    assert (found["snapshots"]["accepted"], found["snapshots"]["quarantined"]) == (2, 1)
    assert found["events"] == {"pending": 1, "total": 3}
    assert found["quarantine"]["by_status"] == {"held": 1}
    assert found["quarantine"]["recent"][0]["reasons"] == ["unknown item"]
    assert found["challengers"] == ["2"]
    json.dumps(found, allow_nan=False)
