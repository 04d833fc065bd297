"""Rounds from journal to champion: once per snapshot, taken up after a kill, stopped without harm."""

import gc
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from core_bench import Shop, open_shop

from penstock.data.dataset import Dataset, write_dataset
from penstock.data.journal import Journal
from penstock.data.snapshot import list_snapshots, read_snapshot
from penstock.data.state import State
from penstock.data.state import rounds as rounds_table
from penstock.errors import LeaseHeld
from penstock.inference.bundle import verify_bundle
from penstock.inference.scorer import Scorer
from penstock.pipeline import checkpoints, online
from penstock.pipeline.ledger import opened
from penstock.registry.store import open_registry
from penstock.settings import Settings


@pytest.fixture
def shop(rounds, tmp_path: Path) -> Shop:  # type: ignore[no-untyped-def]
    """A copy of the shop after two rounds, where a third may be run without the others noticing."""
    return copied(rounds.shop, tmp_path / "copy")


def copied(shop: Shop, folder: Path) -> Shop:
    root = shop.settings.state.home.parent
    gc.collect()  # a database that is let go while it is copied takes its journal away
    shutil.copytree(root, folder)
    places = {
        "state.home": str(folder / "var"),
        "state.url": f"sqlite:///{folder}/state.db",
        "data.dir": str(folder / "data"),
        "registry.tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "registry.artifacts": str(folder / "artifacts"),
    }
    return replace(shop, settings=shop.settings.override(places))


def serving(settings: Settings) -> str | None:
    pointer = open_registry(settings, opened(settings)).champion_pointer()
    if pointer is None:
        return None
    assert verify_bundle(pointer.bundle_dir) == pointer.digest
    return pointer.number


def recorded(state: State, round_id: str) -> sa.Row:  # type: ignore[type-arg]
    with state.read() as conn:
        return conn.execute(sa.select(rounds_table).where(rounds_table.c.round_id == round_id)).one()


def test_two_rounds_make_two_champions(rounds) -> None:  # type: ignore[no-untyped-def]
    settings, (first, second) = rounds.shop.settings, rounds.results
    assert [one.outcome for one in rounds.results] == ["promoted", "promoted"], [one.reason for one in rounds.results]
    assert serving(settings) == second.version == "2"
    assert "prequential_ndcg" not in first.metrics, "nobody was there to be scored"
    assert 0 < second.metrics["prequential_ndcg"] <= 1
    assert second.metrics["held_out_requests"] > 0
    state = opened(settings)
    assert [one.snapshot_id for one in list_snapshots(state, status="learned")] == [
        first.snapshot_id,
        second.snapshot_id,
    ]
    row = recorded(state, second.round_id)
    assert (row.status, row.outcome, row.version, row.bundle_digest) == ("done", "promoted", "2", second.bundle_digest)
    assert json.loads(row.result)["metrics"] == second.metrics


def test_a_bundle_leads_to_its_data_and_parent(rounds) -> None:  # type: ignore[no-untyped-def]
    settings, (_, second) = rounds.shop.settings, rounds.results
    scorer = Scorer.load(settings.registry.artifacts / "bundles" / str(second.bundle_digest))
    lineage = scorer.bundle.manifest["lineage"]
    manifest = list_snapshots(opened(settings))[1]
    assert scorer.digest == second.bundle_digest
    assert (lineage["data_sha256"], lineage["parent_version"]) == (manifest.sha256, "1")
    assert lineage["params_sha256"] == settings.sha256()
    assert scorer.learned_until == manifest.window_end
    left = {path.name for path in (settings.state.home / "rounds" / second.round_id).iterdir()}
    assert left == {"gates", "data-docs"}, "what the registry and the checkpoints keep is not kept twice"
    assert (settings.state.home / "rounds" / second.round_id / "gates" / "gate-report.html").exists()


def test_counters_of_the_bundle_hold_every_event_of_both_snapshots(rounds) -> None:  # type: ignore[no-untyped-def]
    settings = rounds.shop.settings
    manifests = list_snapshots(opened(settings))
    scorer = Scorer.load(settings.registry.artifacts / "bundles" / str(rounds.results[1].bundle_digest))
    assert scorer.state.observed_events == sum(len(read_snapshot(one)) - one.quarantined_rows for one in manifests)
    alone = type(scorer.state)(scorer.state.spec)
    alone.add_items(rounds.shop.dataset.catalogue)
    for manifest in manifests:
        alone.observe(read_snapshot(manifest).sort("at", "event_id"))
    rows, at_s = np.arange(len(alone.items)), rounds.shop.edges[2].timestamp()
    for user in alone.histories.users()[:5]:
        np.testing.assert_allclose(
            scorer.state.features(scorer.state.histories.of(user), rows, at_s),
            alone.features(alone.histories.of(user), rows, at_s),
            rtol=1e-4,
            atol=1e-5,
        )


def test_nothing_pending_is_no_round_and_the_same_snapshot_is_not_taken_twice(shop: Shop) -> None:
    assert online.run_round(shop.settings, shop.edges[2] + timedelta(hours=1)) is None
    assert len(list_snapshots(opened(shop.settings))) == 2


def test_two_rounds_are_never_run_at_once(shop: Shop) -> None:
    with online.round_lease(shop.settings), pytest.raises(LeaseHeld):
        online.run_round(shop.settings, shop.edges[3])


class Killed(BaseException):
    """Stands for a kill at a point of our choice."""


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("stage", ["judge", "track"])
def test_a_killed_round_is_taken_up_and_ends_like_one_that_was_not(
    rounds,
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,  # type: ignore[no-untyped-def]
) -> None:
    now = shop.arrive(2)
    monkeypatch.setattr(online, stage, killed)
    with pytest.raises(Killed):
        online.run_round(shop.settings, now)
    assert serving(shop.settings) == "2", "the old champion serves"
    monkeypatch.undo()
    resumed = online.run_round(shop.settings, now)
    assert resumed is not None
    assert resumed.outcome == "promoted"
    assert len(list_snapshots(opened(shop.settings))) == 3
    if stage != "judge":
        return
    other = copied(rounds.shop, tmp_path / "other")
    whole = online.run_round(other.settings, other.arrive(2))
    assert whole is not None
    assert whole.metrics == resumed.metrics
    assert whole.snapshot_id == resumed.snapshot_id


def test_a_crash_between_record_and_checkpoint_is_made_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    now, before = shop.arrive(2), checkpoints.newest(shop.settings)
    monkeypatch.setattr(online, "keep", killed)
    with pytest.raises(Killed):
        online.run_round(shop.settings, now)
    assert checkpoints.newest(shop.settings) == before
    _, _, carried = checkpoints.start_from(shop.settings, opened(shop.settings))
    assert len(carried.snapshots) == len(set(carried.snapshots)) == 3
    assert checkpoints.newest(shop.settings) != before
    assert online.run_round(shop.settings, now) is None, "it was learned from, and is not again"


def test_a_loss_that_blows_up_leaves_the_champion_and_does_not_come_back(shop: Shop) -> None:
    now = shop.arrive(2)
    wild = shop.settings.override({"training.learning_rate": 1e9, "training.epochs": 3})
    result = online.run_round(wild, now)
    assert result is not None
    assert (result.outcome, result.version) == ("failed", None)
    assert "nothing of this round was kept" in result.reason
    assert serving(shop.settings) == "2"
    assert recorded(opened(shop.settings), result.round_id).outcome == "failed"
    assert online.run_round(shop.settings, now) is None, "the snapshot cannot stop every later round"
    learner, _, carried = checkpoints.start_from(shop.settings, opened(shop.settings))
    assert len(carried.snapshots) == 2
    assert all(bool(value.isfinite().all()) for value in learner.network.state_dict().values())


def test_a_refused_snapshot_is_quarantined_and_nothing_is_learned(shop: Shop) -> None:
    now = shop.edges[3] + timedelta(minutes=10)
    rows = shop.part(2).with_columns(received_at=pl.col("at"), item_id=pl.lit("no-such-item"))
    Journal(opened(shop.settings), shop.settings.data).append(rows, now)
    result = online.run_round(shop.settings, now)
    assert result is not None
    assert (result.outcome, result.version) == ("quarantined", None)
    state = opened(shop.settings)
    assert recorded(state, result.round_id).outcome == "quarantined"
    assert [one.snapshot_id for one in list_snapshots(state, status="quarantined")] == [result.snapshot_id]
    assert serving(shop.settings) == "2"
    assert online.run_round(shop.settings, now) is None


def test_items_may_change_their_text_or_leave_the_catalogue(shop: Shop) -> None:
    had = set(shop.part(2)["item_id"])
    table = shop.dataset.catalogue
    gone = next(item for item in table["item_id"] if item not in had)
    changed = table.filter(pl.col("item_id") != gone).with_columns(title=pl.col("title") + " (new)")
    write_dataset(Dataset(shop.part(2).head(9), changed, shop.dataset.meta), shop.settings.data.dir)
    result = online.run_round(shop.settings, shop.arrive(2))
    assert result is not None
    assert result.outcome == "promoted", result.reason
    scorer = Scorer.load(shop.settings.registry.artifacts / "bundles" / str(result.bundle_digest))
    assert gone in scorer.state.items, "rows of items never move"


def test_a_challenger_that_a_gate_refuses_is_kept_and_does_not_serve(shop: Shop) -> None:
    now = shop.arrive(2)
    strict = shop.settings.override({"gates.min_requests": 10_000})
    result = online.run_round(strict, now)
    assert result is not None
    assert result.outcome == "refused"
    assert result.version == "3"
    assert serving(shop.settings) == "2"
    _, _, carried = checkpoints.start_from(shop.settings, opened(shop.settings))
    assert result.snapshot_id not in carried.snapshots


def test_a_manual_policy_waits(shop: Shop) -> None:
    now = shop.arrive(2)
    result = online.run_round(shop.settings.override({"promotion.policy": "manual"}), now)
    assert result is not None
    assert (result.outcome, serving(shop.settings)) == ("waiting", "2")


LABELS = ("card", "transfer", "loan")


def test_a_round_of_labelled_texts(tmp_path: Path, tiny_encoder: str) -> None:
    """Three labels: learned, exported, promoted, and asked."""
    changes = {"task": "classify", "training.learning_rate": 0.02, "validation.max_bad_row_share": 0.5}
    shop = open_shop(tmp_path, tiny_encoder, 1, **changes)
    table = shop.dataset.catalogue.head(3).with_columns(item_id=pl.Series(LABELS), title=pl.Series(LABELS))
    picked = shop.dataset.events.head(120)
    words = [LABELS[n % 3] for n in range(120)]
    events = picked.with_columns(
        user_id=pl.lit("-"), item_id=pl.Series(words), kind=pl.lit("label"), received_at=pl.col("at"),
        request_id=pl.lit(None, pl.String), position=pl.lit(None, pl.Int32), propensity=pl.lit(None, pl.Float64),
        value=pl.lit(None, pl.Float64), query=pl.Series([f"my {word} number {n}" for n, word in enumerate(words)]),
    )  # fmt: skip
    meta = replace(shop.dataset.meta, task="classify", kinds=["label"], logged="positives")
    write_dataset(Dataset(events.head(3), table, meta), shop.settings.data.dir)
    now = shop.edges[1] + timedelta(minutes=10)
    assert Journal(opened(shop.settings), shop.settings.data).append(events, now).rejected == []
    result = online.run_round(shop.settings, now)
    assert result is not None
    assert result.outcome == "promoted", result.reason
    scorer = Scorer.load(shop.settings.registry.artifacts / "bundles" / str(result.bundle_digest))
    assert (scorer.task, scorer.labels) == ("classify", sorted(LABELS))
    probability = scorer.classify(["my card number 999", "transfer", "a loan"])
    assert probability.shape == (3, 3)
    np.testing.assert_allclose(probability.sum(1), 1.0, atol=1e-5)
    assert 0 <= result.metrics["held_out_accuracy"] <= 1
