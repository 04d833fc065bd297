"""The demo empties its own folder and no other, and `make up` finds what it left."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.demo_home import FALLBACK, MARKER, free_port, fresh_home, go_on_from_demo, point_at, pulled
from penstock.errors import DataError
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    changes = {"state.home": str(tmp_path / "var"), "service.port": free_port("127.0.0.1")}
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("PENSTOCK__")]:
            del os.environ[name]
        yield load_settings(ROOT / "params.yaml", {}).override(changes)


def test_an_empty_home_is_taken_and_the_next_demo_empties_it(settings: Settings) -> None:
    home = fresh_home(settings)
    assert home.own
    assert home.folder == settings.state.home
    (home.folder / "state.db").touch()
    (home.folder / "rounds").mkdir()
    (home.folder / "graphs").mkdir()
    again = fresh_home(settings)
    assert again.own
    assert {path.name for path in again.folder.iterdir()} == {MARKER, "graphs"}


def test_somebody_elses_state_stays_as_it_is(settings: Settings) -> None:
    settings.state.home.mkdir()
    (settings.state.home / "state.db").write_text("precious")
    home = fresh_home(settings)
    assert not home.own
    assert home.folder == settings.state.home / FALLBACK
    assert (settings.state.home / "state.db").read_text() == "precious"


def test_a_demo_that_is_being_served_is_not_emptied_and_another_port_is_used(settings: Settings) -> None:
    home = fresh_home(settings)
    (home.folder / "state.db").touch()
    with socket.socket() as service:
        service.bind((settings.service.host, settings.service.port))
        service.listen()
        second = fresh_home(settings)
        point_at(second, settings)
    assert not second.own
    assert (home.folder / "state.db").exists()
    assert int(os.environ["PENSTOCK__SERVICE__PORT"]) != settings.service.port


def test_make_up_reads_the_catalogue_that_the_demo_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert not go_on_from_demo()
    home = fresh_home(load_settings())
    assert go_on_from_demo()
    assert os.environ["PENSTOCK__DATA__DIR"] == json.loads((home.folder / MARKER).read_text())["data_dir"]
    os.environ["PENSTOCK__DATA__DIR"] = "elsewhere"
    assert not go_on_from_demo(), "what a person says wins"


def test_data_that_dvc_cannot_bring_is_an_error_that_says_so(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs: []\n")
    with pytest.raises(DataError, match=r"data/market.*`dvc pull` ended with code \d+"):
        pulled(settings, tmp_path)


def test_data_that_are_there_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "data" / "market").mkdir(parents=True)
    (tmp_path / "data.dvc").touch()
    pulled(settings, tmp_path)
