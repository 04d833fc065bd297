"""A user is erased with all that learned from them; rounds start again; a search finds nothing."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from core_bench import Shop
from test_online_rounds import copied

from penstock.data.dataset import Dataset, read_dataset, write_dataset
from penstock.data.journal import Journal
from penstock.data.publishing import open_place, publish
from penstock.data.snapshot import list_snapshots, mark_learned, save_manifest
from penstock.data.traces import find_traces
from penstock.errors import LeaseHeld, SettingsError
from penstock.pipeline.erasure import erase_user
from penstock.pipeline.ledger import opened, round_lease
from penstock.registry.audit import entries
from penstock.registry.store import open_registry


def own_copy(shop: Shop, folder: Path) -> Shop:
    """A copy whose snapshots are its own files too."""
    made = copied(shop, folder)
    before, after = str(shop.settings.state.home), str(made.settings.state.home)
    state = opened(made.settings)
    with state.write() as conn:
        for manifest in list_snapshots(state):
            save_manifest(conn, replace(manifest, path=manifest.path.replace(before, after)))
    return made


def test_who_was_in_every_round_is_erased_from_all_of_them(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = own_copy(rounds.shop, tmp_path / "copy").settings
    state = opened(settings)
    registry = open_registry(settings, state)
    user = rounds.shop.part(0)["user_id"].value_counts().sort("count", "user_id")["user_id"][-1]
    stored = Journal(state, settings.data).name_of(user)
    project = tmp_path / "copy"
    cached = project / ".dvc" / "cache" / "files" / "md5" / "aa" / "bb"
    cached.parent.mkdir(parents=True)
    (project / ".dvc" / "config").write_text("['remote \"s3\"']\n    url = s3://bucket/penstock\n")
    cached.write_bytes(Path(list_snapshots(state)[0].path).read_bytes())
    assert find_traces([project], [stored])
    done = erase_user(settings, state, registry, user, "ann", "asked for it", project)
    assert done.rows.events > 0
    assert done.learned_by == ["1", "2"]
    assert done.serving == "2"
    assert done.start is None
    assert done.relearn == [result.snapshot_id for result in rounds.results], "from the beginning"
    assert not cached.exists()
    assert done.not_searched == ["s3://bucket/penstock"]
    pointer = registry.champion_pointer()
    assert pointer is not None
    assert done.left, "the version that serves knows the user's past"
    elsewhere = [path for path in done.left if not Path(path).is_relative_to(pointer.bundle_dir.absolute())]
    assert elsewhere == []
    assert registry.version("1").status == "rejected"
    assert [one.snapshot_id for one in list_snapshots(state, "closed")] == done.relearn
    entry = entries(state)[-1]
    assert (entry.actor, entry.action) == ("ann", "erase")
    assert not any(name in str(entry.details) for name in (user, stored))


def test_nothing_is_called_erased_where_the_key_is_lost(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lost = {"data.user_key_file": str(tmp_path / "lost.json")}
    settings = own_copy(rounds.shop, tmp_path / "copy").settings.override(lost)
    state = opened(settings)
    with pytest.raises(SettingsError, match=r"key file .*lost\.json is not there"):
        erase_user(settings, state, open_registry(settings, state), "user-00001", "ann", "asked", tmp_path / "copy")


def test_a_stranger_to_all_versions_leaves_them_alone(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shop = own_copy(rounds.shop, tmp_path / "copy")
    state = opened(shop.settings)
    now = shop.edges[3] + timedelta(minutes=1)
    event = {"event_id": "x1", "user_id": "late-comer", "item_id": "i1", "kind": "click", "at": now}
    assert Journal(state, shop.settings.data).append([event], now).accepted == 1
    done = erase_user(
        shop.settings, state, open_registry(shop.settings, state), "late-comer", "ann", "asked", tmp_path / "copy"
    )
    assert (done.rows.events, done.learned_by, done.removed, done.relearn, done.left) == (1, [], [], [], [])
    with round_lease(shop.settings), pytest.raises(LeaseHeld):
        erase_user(shop.settings, state, open_registry(shop.settings, state), "x", "ann", "r", tmp_path)


def test_the_dataset_is_whole_without_the_user(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = own_copy(rounds.shop, tmp_path / "copy").settings
    state = opened(settings)
    dataset = rounds.shop.dataset
    user = dataset.events["user_id"][0]
    write_dataset(Dataset(dataset.events[:90], dataset.catalogue, dataset.meta), settings.data.dir)
    done = erase_user(settings, state, open_registry(settings, state), user, "ann", "asked", tmp_path / "copy")
    assert done.rewritten == [str(settings.data.dir / "events.parquet")]
    left = read_dataset(settings.data.dir).events
    assert 0 < len(left) < 90
    assert user not in left["user_id"]


def test_published_copies_are_removed_or_named(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shop = own_copy(rounds.shop, tmp_path / "copy")
    settings, home = shop.settings, shop.settings.state.home
    state = opened(settings)
    user = rounds.shop.part(0)["user_id"].value_counts().sort("count", "user_id")["user_id"][-1]
    stored = Journal(state, settings.data).name_of(user)
    remote, now = tmp_path / "remote", shop.edges[3]
    sent = publish(state, home, open_place(str(remote)), now).sent
    far = open_place("memory://bucket")
    publish(state, home, far, now)
    assert find_traces([remote], [stored])
    for _ in range(2):
        done = erase_user(settings, state, open_registry(settings, state), user, "ann", "asked", tmp_path / "copy")
        assert str(remote) in done.searched
        assert done.not_searched == [far.name], "the second time too"
        assert not find_traces([remote], [stored])
    with state.write() as conn:
        for manifest in list_snapshots(state, "closed"):
            mark_learned(conn, manifest.snapshot_id)
    assert publish(state, home, open_place(str(remote)), now).sent == sent, "what was written anew"
    assert not find_traces([remote], [stored])
