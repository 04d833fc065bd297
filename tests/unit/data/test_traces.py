"""A name is found wherever it stands, and nowhere else; what is deleted from the database is gone from its file."""

import json
from pathlib import Path

import polars as pl
import pytest
from stream_bench import closed, event, settings_under

from penstock.data.erasure import erase_rows
from penstock.data.journal import Journal
from penstock.data.quarantine import quarantine_rows
from penstock.data.snapshot import find_snapshot, read_snapshot
from penstock.data.state import open_state
from penstock.data.traces import find_traces
from penstock.errors import DataError

USER = "ann-of-kent"


def test_names_are_found_in_tables_json_text_and_bytes(tmp_path: Path) -> None:
    pl.DataFrame({"who": ["x", USER]}).write_parquet(tmp_path / "a.parquet", compression="zstd")
    pl.DataFrame({"row": [json.dumps({"user": USER})]}).write_parquet(tmp_path / "object-without-ending")
    (tmp_path / "names.json").write_text(json.dumps({"users": ["x", USER]}))
    (tmp_path / "page.html").write_text(f"<td>{USER}</td>")
    (tmp_path / "weights.safetensors").write_bytes(b"\0\1" + USER.encode() + b"\2")
    pl.DataFrame({"who": ["x", USER + "17"]}).write_parquet(tmp_path / "other.parquet")
    (tmp_path / "other.json").write_text(json.dumps([USER + "17"]))
    (tmp_path / "other.html").write_text(f"<td>{USER}17</td>")
    found = [path.name for path in find_traces([tmp_path], [USER])]
    assert found == ["a.parquet", "names.json", "object-without-ending", "page.html", "weights.safetensors"]
    assert find_traces([tmp_path], ["nobody-at-all"]) == []


def test_a_file_that_cannot_be_read_is_no_proof(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match=r"cut\.parquet cannot be searched"):
        find_traces([tmp_path], [USER])


def test_rows_leave_journal_snapshot_quarantine_and_the_file_itself(tmp_path: Path) -> None:
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    rows = [event(1), event(2, user_id=USER), event(3, user_id=USER, position=-1), event(4, user_id=USER + "17")]
    manifest = closed(state, settings, rows)
    bad = read_snapshot(manifest)[2:3].with_columns(reasons=pl.lit(["position"]).list.eval(pl.element()))
    quarantine_rows(state, manifest, bad)
    Journal(state, settings.data).append([event(5, minutes_ago=1, user_id=USER)], event(0)["at"].replace(year=2027))
    assert len(find_traces([tmp_path], [USER])) >= 2
    done = erase_rows(state, tmp_path, [USER])
    assert (done.events, done.quarantined, done.snapshots) == (3, 1, [manifest.snapshot_id])
    now, _ = find_snapshot(state, manifest.snapshot_id)
    assert read_snapshot(now)["event_id"].to_list() == ["e00001", "e00004"], "the hash fits what is left"
    assert (now.rows, now.counts_by_kind) == (2, {"click": 2})
    assert find_traces([tmp_path], [USER]) == []
    assert not any(USER.encode() + b"e0000" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert erase_rows(state, tmp_path, [USER]) == type(done)(0, 0, [])
    state.engine.dispose()
