"""Few large files, every old hash: a packed snapshot is read as before, and a crash in between loses none."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from stream_bench import NOW, closed, event, settings_under

from penstock.data import packs
from penstock.data.packs import compact, read_index, unpack
from penstock.data.snapshot import list_snapshots, read_snapshot, snapshot_bytes
from penstock.data.state import State, open_state
from penstock.data.tables import file_sha256
from penstock.errors import SchemaError
from penstock.records import SnapshotManifest


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(settings_under(tmp_path).state.url)
    yield state
    state.engine.dispose()


def snapshots(state: State, home: Path, first: int, count: int) -> list[SnapshotManifest]:
    """`count` snapshots of three events each, an hour apart."""
    for number in range(first, first + count):
        now = NOW + timedelta(hours=number)
        rows = [event(10 * number + n, at=now - timedelta(minutes=n), value=n / 3) for n in range(3)]
        closed(state, settings_under(home), rows, now)
    return list_snapshots(state)


def test_every_hash_is_there_after_compaction(state: State, tmp_path: Path) -> None:
    made = snapshots(state, tmp_path, 0, 7)
    before = {one.snapshot_id: (read_snapshot(one), snapshot_bytes(one)) for one in made}
    done = compact(tmp_path, made[:5], pack_rows=9)
    assert (done.snapshots, done.packs) == (5, 2), "three snapshots of three rows fill a pack"
    assert len(list((tmp_path / "snapshots").iterdir())) == 2, "the two newest stay as they are"
    for one in made:
        frame, data = before[one.snapshot_id]
        assert read_snapshot(one).equals(frame)
        assert snapshot_bytes(one) == data
        assert packs.bytes_sha256(snapshot_bytes(one)) == one.sha256


def test_a_small_last_pack_is_filled_up_a_full_one_is_left_alone(state: State, tmp_path: Path) -> None:
    compact(tmp_path, snapshots(state, tmp_path, 0, 4), pack_rows=9)
    first = read_index(tmp_path)
    full = [name for name in set(first.values()) if list(first.values()).count(name) == 3]
    assert len(full) == 1
    written = (tmp_path / "packs" / full[0]).stat().st_mtime_ns
    made = snapshots(state, tmp_path, 4, 2)
    assert compact(tmp_path, made, pack_rows=9).packs == 2
    assert (tmp_path / "packs" / full[0]).stat().st_mtime_ns == written
    assert len(list((tmp_path / "packs").glob("*.parquet"))) == 2
    assert [len(read_snapshot(one)) for one in made] == [3] * 6
    assert compact(tmp_path, made, pack_rows=9).snapshots == 0, "again changes nothing"


def test_a_crash_before_the_originals_go_loses_nothing(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = snapshots(state, tmp_path, 0, 3)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("_verified", "shutil.rmtree"):
        monkeypatch.setattr(f"penstock.data.packs.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, made, pack_rows=100)
        monkeypatch.undo()
        assert [len(read_snapshot(one)) for one in made] == [3, 3, 3]
        assert all(Path(one.path).exists() for one in made)
    assert compact(tmp_path, made, pack_rows=100).packs == 1
    assert not any(Path(one.path).exists() for one in made), "what the killed one left is cleared"
    assert [len(read_snapshot(one)) for one in made] == [3, 3, 3]


def test_an_altered_snapshot_is_not_packed_an_altered_pack_is_refused(state: State, tmp_path: Path) -> None:
    made = snapshots(state, tmp_path, 0, 2)
    path = Path(made[0].path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(SchemaError, match="was altered; it is not packed"):
        compact(tmp_path, made, pack_rows=100)
    path.write_bytes(whole)
    compact(tmp_path, made, pack_rows=100)
    (pack,) = (tmp_path / "packs").glob("*.parquet")
    pl.read_parquet(pack).with_columns(item_id=pl.lit("other")).write_parquet(pack)
    with pytest.raises(SchemaError, match="the pack was altered; fetch the snapshot anew"):
        read_snapshot(made[0])
    pack.write_bytes(b"PAR1")
    with pytest.raises(SchemaError, match=r"pack .* cannot be read"):
        read_snapshot(made[0])


def test_another_parquet_writer_is_no_alteration(state: State, tmp_path: Path) -> None:
    (made,) = snapshots(state, tmp_path, 0, 1)
    compact(tmp_path, [made], pack_rows=100)
    assert len(read_snapshot(replace(made, sha256="0" * 64))) == 3, "the hash of the content decides"
    with pytest.raises(SchemaError, match="the pack was altered"):
        read_snapshot(replace(made, sha256="0" * 64, content_sha256="1" * 64))


def test_unpacking_puts_every_file_back(state: State, tmp_path: Path) -> None:
    made = snapshots(state, tmp_path, 0, 3)
    compact(tmp_path, made, pack_rows=100)
    assert unpack(tmp_path, made) == 3
    assert not (tmp_path / "packs").exists()
    assert [file_sha256(Path(one.path)) for one in made] == [one.sha256 for one in made]
