"""data compact and data publish from the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.data.snapshot import close_snapshot, mark_learned, read_snapshot
from penstock.data.state import open_state
from penstock.records import SnapshotManifest
from penstock.settings import load_settings


@pytest.fixture
def learned(answer: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> list[SnapshotManifest]:
    """Two learned snapshots."""
    changes = {"VALIDATION__MIN_ROWS": 1, "DATA__ALLOWED_LATENESS_MINUTES": 0, "DATA__LABEL_WAIT_MINUTES": 0}
    for name, value in (changes | {"DATA__LOOSE_SNAPSHOTS": 1}).items():
        monkeypatch.setenv(f"PENSTOCK__{name}", str(value))
    made = []
    settings = load_settings()
    for number in range(2):
        row = {
            "event_id": f"e{number}",
            "user_id": "u",
            "item_id": "i",
            "kind": "click",
            "at": f"2026-03-0{number + 1}",
        }
        (place / "events.jsonl").write_text(json.dumps(row | {"at": row["at"] + "T12:00:00Z"}))
        answer("ingest", "events.jsonl")
        state = open_state(settings.state.url)
        manifest = close_snapshot(state, settings, datetime.now(UTC))
        assert manifest is not None
        with state.write() as conn:
            mark_learned(conn, manifest.snapshot_id)
        state.engine.dispose()
        made.append(manifest)
    return made


def test_publish_then_compact(answer: Any, place: Path, learned: list[SnapshotManifest]) -> None:
    sent = answer("data", "publish", "./copies")
    assert (sent["sent"], sent["published"]) == (2, 2)
    assert Path(sent["dvc_file"]).read_text().startswith(f"outs:\n- md5: {sent['data_md5']}\n")
    assert answer("data", "publish", "./copies")["sent"] == 0
    done = answer("data", "compact")
    assert (done["packed_now"], done["packs"]) == (1, 1), "the newest stays as it is"
    assert not Path(learned[0].path).exists()
    assert [len(read_snapshot(one)) for one in learned] == [1, 1]


def test_a_remote_that_is_not_there(answer: Any, learned: list[SnapshotManifest]) -> None:
    assert "cannot be used in" in answer("data", "publish", "nowhere", code=1)["error"]["message"]
