"""Published means read back and equal; only what is new is sent; DVC gives the same hashes and brings it all back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stream_bench import NOW, closed, event, settings_under

from penstock.data.hashes import dvc_file_md5, dvc_tree
from penstock.data.packs import compact
from penstock.data.publishing import Place, fetch, open_place, publish, published_at
from penstock.data.snapshot import list_snapshots, mark_learned
from penstock.data.state import State, open_state
from penstock.errors import DataError, DependencyMissing, SettingsError
from penstock.records import SnapshotManifest


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(settings_under(tmp_path / "home").state.url)
    yield state
    state.engine.dispose()


def learned(state: State, home: Path, first: int, count: int) -> list[SnapshotManifest]:
    for number in range(first, first + count):
        now = NOW + timedelta(hours=number)
        rows = [event(10 * number + n, at=now - timedelta(minutes=n)) for n in range(3)]
        manifest = closed(state, settings_under(home), rows, now)
        with state.write() as conn:
            mark_learned(conn, manifest.snapshot_id)
    return list_snapshots(state)


class Watched:
    """A place that counts what is sent to it, and may damage it."""

    def __init__(self, place: Place) -> None:
        self.place, self.sent, self.damage = place, 0, False
        self.unwrapped: Any = place.files

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unwrapped, name)

    def open(self, path: str, mode: str) -> Any:
        self.sent += mode == "wb"
        if mode == "rb" and self.damage:
            with self.unwrapped.open(path, "ab") as file:
                file.write(b"!")
        return self.unwrapped.open(path, mode)


def test_only_what_is_new_is_sent_and_it_can_be_fetched(state: State, tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = learned(state, home, 0, 3)
    place = open_place(str(tmp_path / "remote"))
    first = publish(state, home, place, NOW)
    assert (first.sent, first.total) == (3, 3)
    made = learned(state, home, 3, 1)
    watched = Watched(place)
    second = publish(state, home, Place(place.name, watched, place.path_of), NOW)
    assert (second.sent, second.total, watched.sent) == (1, 4, 2), "one snapshot and the list of them"
    assert [dvc_file_md5(Path(one.path)) for one in made] == [one.dvc_md5 for one in made]
    compact(home, made, 100)
    assert [fetch(place, one) for one in made] == [Path(place.path_of(one.dvc_md5 or "")).read_bytes() for one in made]
    Path(place.path_of(made[0].dvc_md5 or "")).write_bytes(b"altered")
    with pytest.raises(DataError, match="it was altered there"):
        fetch(place, made[0])


def test_what_reads_back_otherwise_does_not_count(state: State, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (made,) = learned(state, home, 0, 1)
    place = open_place(f"file://{tmp_path}/remote")
    watched = Watched(place)
    watched.damage = True
    with pytest.raises(DataError, match=r"reads back \d+ bytes of md5 .* it does not count as published"):
        publish(state, home, Place(place.name, watched, place.path_of), NOW)
    assert published_at(state, place.name) == {}
    assert not Path(place.path_of(made.dvc_md5 or "")).exists(), "nobody finds half a file under its hash"
    assert publish(state, home, place, NOW).sent == 1


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC itself, through pygtrie
def test_dvc_gives_the_same_hashes_and_pulls_it_back(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    home, project = tmp_path / "home", tmp_path / "project"
    made = learned(state, home, 0, 3)
    project.mkdir()
    monkeypatch.chdir(project)
    Repo.init(".", no_scm=True).close()
    core = "[core]\n    no_scm = True\n    analytics = false\n    remote = store\n"
    (project / ".dvc" / "config").write_text(f"{core}['remote \"store\"']\n    url = {tmp_path}/store\n")
    (project / "mine").mkdir()
    for one in made:
        (project / "mine" / f"{one.snapshot_id}.parquet").write_bytes(Path(one.path).read_bytes())
    with Repo(".") as repo:
        (stage,) = repo.add("mine")
    by_name = {f"{one.snapshot_id}.parquet": one.dvc_md5 or "" for one in made}
    assert stage.outs[0].hash_info.value == dvc_tree(by_name)[0]
    done = publish(state, home, open_place(None), NOW)
    assert done.md5 == dvc_tree(by_name)[0]
    (project / "snapshots.dvc").write_text(done.dvc_file.read_text())
    with Repo(".") as repo:
        repo.pull(targets=["snapshots.dvc"])
    pulled = {path.name: dvc_file_md5(path) for path in (project / "snapshots-published").iterdir()}
    assert pulled == by_name
    with pytest.raises(SettingsError, match="DVC remote nowhere cannot be used"):
        open_place("nowhere")


def test_nothing_learned_and_an_unknown_file_system(state: State, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to publish"):
        publish(state, tmp_path / "home", open_place(str(tmp_path / "remote")), NOW)
    with pytest.raises(DependencyMissing, match="cannot be opened"):
        open_place("nosuch://bucket")
