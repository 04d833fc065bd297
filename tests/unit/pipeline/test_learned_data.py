"""From a version back to exactly the rows it learned from."""

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.data.packs import compact
from penstock.data.publishing import open_place, publish
from penstock.data.snapshot import list_snapshots
from penstock.data.tables import file_sha256
from penstock.errors import DataError, StateError
from penstock.pipeline.learned_data import data_of, restore, tree_md5
from penstock.pipeline.ledger import opened
from penstock.registry.store import open_registry


def quiet(name: str, done: int, total: int) -> None:
    """Nobody looks."""


def test_each_version_leads_to_its_own_snapshots(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = rounds.shop.settings
    state = opened(settings)
    made = list_snapshots(state)
    lineages = [open_registry(settings, state).version(number).lineage for number in ("1", "2")]
    assert lineages[0].data_md5 != lineages[1].data_md5
    assert [[part.manifest for part in data_of(state, lineage)] for lineage in lineages] == [made[:1], made]
    assert lineages[1].data_md5 == tree_md5(made)
    parts = data_of(state, lineages[1])
    assert restore(parts, tmp_path / "two", None, quiet) == []
    assert {path.name: file_sha256(path) for path in (tmp_path / "two").glob("*.parquet")} == {
        f"{one.snapshot_id}.parquet": one.sha256 for one in made
    }
    listed = json.loads((tmp_path / "two" / "data.json").read_text())
    assert [(one["snapshot_id"], one["dvc_md5"], one["learned"]) for one in listed] == [
        (one.snapshot_id, one.dvc_md5, True) for one in made
    ]
    with pytest.raises(DataError, match="is not empty"):
        restore(parts, tmp_path / "two", None, quiet)
    with pytest.raises(DataError, match="a snapshot was changed since"):
        data_of(state, replace(lineages[1], data_md5="0" * 32 + ".dir"))
    with pytest.raises(StateError, match="`git checkout` its commit, then `dvc checkout`"):
        data_of(state, replace(lineages[1], round_id="rebuild-1"))


def test_from_packs_and_from_where_it_was_published(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shop = rounds.shop
    root = tmp_path / "copy"
    gc.collect()  # a database that is let go while it is copied takes its journal away
    shutil.copytree(shop.settings.state.home.parent, root)
    places = {"state.home": str(root / "var"), "state.url": f"sqlite:///{root}/state.db"}
    settings = shop.settings.override(places)
    state = opened(settings)
    lineage = open_registry(shop.settings, opened(shop.settings)).version("2").lineage
    parts = data_of(state, lineage)
    moved = [
        replace(one.manifest, path=str(root / "var" / "snapshots" / one.manifest.snapshot_id / "events.parquet"))
        for one in parts
    ]
    parts = [replace(one, manifest=manifest) for one, manifest in zip(parts, moved, strict=True)]
    place = open_place(str(tmp_path / "remote"))
    publish(state, settings.state.home, place, shop.edges[2])
    compact(settings.state.home, moved[:1], 100_000)
    assert restore(parts, tmp_path / "packed", None, quiet) == []
    shutil.rmtree(root / "var" / "packs")
    with pytest.raises(DataError, match="--from names where it was published"):
        restore(parts, tmp_path / "gone", None, quiet)
    assert restore(parts, tmp_path / "fetched", place, quiet) == []
    for folder in ("packed", "fetched"):
        found = {path.stem: file_sha256(path) for path in (tmp_path / folder).glob("*.parquet")}
        assert found == {one.snapshot_id: one.sha256 for one in moved}
