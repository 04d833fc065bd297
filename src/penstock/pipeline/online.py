"""The stages of one round: close, validate, learn, judge, decide. Flows and the command line only order them.

What a stage leaves on disk is whole or absent, and every stage derives from the snapshot, the parent checkpoint and
the seed; so a round that was killed is taken up by running its stages again.
"""

import shutil
import subprocess
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock.data.dataset import Dataset, read_dataset
from penstock.data.drift import acts_of, drift_rules, recalled, remember
from penstock.data.expectations import validate_snapshot
from penstock.data.posted_items import with_posted
from penstock.data.quarantine import is_waived, list_quarantine, quarantine_rows, quarantine_snapshot
from penstock.data.snapshot import close_snapshot, list_snapshots, read_snapshot, recent_snapshots
from penstock.data.state import State
from penstock.errors import EmptyWindow, ExportError, PenstockError, SnapshotRefused, TrainingError
from penstock.evaluation.gates import judge as judge_gates
from penstock.evaluation.gates import write_report
from penstock.evaluation.infra import InfraVerdict
from penstock.export.bundle import BundleWriter, library_versions
from penstock.inference.scorer import Scorer
from penstock.pipeline.checkpoints import CHECKPOINT, clear, keep, round_folder, start_from
from penstock.pipeline.classify_round import ClassifyRound
from penstock.pipeline.infra_check import InfraCheck
from penstock.pipeline.item_space import item_space
from penstock.pipeline.learned_data import tree_md5
from penstock.pipeline.ledger import begin, missed_snapshots, record
from penstock.pipeline.ledger import opened as opened
from penstock.pipeline.ledger import round_lease as round_lease
from penstock.pipeline.promotion_budget import note_judgement, round_budget
from penstock.pipeline.rank_round import RankRound
from penstock.pipeline.rows_seen import rows_seen
from penstock.pipeline.stages import Stages
from penstock.pipeline.suspicion import suspects, too_many
from penstock.pipeline.tracked import track
from penstock.records import GateReport, Lineage, Outcome, RoundResult, SnapshotManifest
from penstock.registry.promotion import promote
from penstock.registry.store import open_registry
from penstock.registry.versions import REQUESTER
from penstock.settings import Settings
from penstock.training.checkpoint import save_checkpoint
from penstock.training.learner import LearnReport

DATA_DOCS = "data-docs.html"
"""The page of validation, kept beside the gate report that links to it."""
CANNOT_LEARN = (EmptyWindow, TrainingError, ExportError)
ROUND_TASKS: dict[str, Any] = {"rank": RankRound, "classify": ClassifyRound}


@dataclass(frozen=True)
class Validated:
    """A snapshot whose good rows may be learned from."""

    events: pl.DataFrame
    bad_rows: int
    docs: Path | None
    seconds: float


@dataclass
class Trained:
    """A round that has learned and exported, not judged yet."""

    manifest: SnapshotManifest
    round: Any
    report: LearnReport
    bundle: Path
    digest: str
    lineage: Lineage
    metrics: dict[str, float]
    infra: InfraVerdict
    stages_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A trained round and its gates."""

    trained: Trained
    gates: GateReport
    report_dir: Path


def round_id_of(manifest: SnapshotManifest) -> str:
    """One round per snapshot."""
    return f"r-{manifest.snapshot_id}"


def close(settings: Settings, now: datetime | None = None) -> SnapshotManifest | None:
    """The snapshot whose turn it is: one that an interrupted round left, else the next window; None when too few
    events are pending."""
    state = opened(settings)
    left = list_snapshots(state, status="closed")
    if left:
        return left[0]
    return close_snapshot(state, settings, now or datetime.now(UTC))


def validate(settings: Settings, manifest: SnapshotManifest) -> Validated:
    """Check the snapshot; bad and suspect rows go to quarantine with their reasons.

    Raises:
        SnapshotRefused: the snapshot as a whole; it is in quarantine and nothing was learned from it.
        SchemaError: the snapshot's file was altered.
    """
    state = opened(settings)
    started = time.perf_counter()
    events = read_snapshot(manifest)
    catalogue = dataset_of(settings).catalogue
    docs = round_folder(settings, round_id_of(manifest)) / "data-docs"
    recent = recent_snapshots(state, manifest, settings.validation.history_snapshots)
    acts, past = acts_of(events, settings.data.gains), recalled(state, recent)
    champion = open_registry(settings, state).champion_pointer()
    space = item_space(catalogue, champion.bundle_dir if champion else None)
    drift, _ = drift_rules(acts, past, space, settings.validation)
    verdict = validate_snapshot(events, manifest, catalogue["item_id"].to_list(), settings, recent, docs, drift)
    held = suspects(state, settings, manifest, verdict.good)
    bad = pl.concat([verdict.bad, held])
    good = verdict.good.filter(~pl.col("event_id").is_in(held["event_id"].implode()))
    why = verdict.reasons + too_many(len(held), manifest.rows, settings)
    if why and not is_waived(state, manifest.snapshot_id):
        reason = "; ".join(why)
        quarantine_snapshot(state, manifest, why)
        error = SnapshotRefused(
            f"snapshot {manifest.snapshot_id} ({manifest.rows} rows) refused: {reason}; it is in quarantine, "
            "see `penstock quarantine`"
        )
        record(settings, state, stopped(manifest, "quarantined", error), learned=False)
        raise error
    if len(bad):
        quarantine_rows(state, manifest, bad)
    remember(state, manifest.snapshot_id, acts)
    return Validated(good, len(bad), verdict.docs, time.perf_counter() - started)


def stopped(manifest: SnapshotManifest, outcome: Outcome, error: PenstockError) -> RoundResult:
    """What a round came to that an error ended."""
    return RoundResult(round_id_of(manifest), manifest.snapshot_id, outcome, None, None, str(error), {}, {})


def dataset_of(settings: Settings) -> Dataset:
    """The catalogue, posted items included, and what is known of the data; its events are history, not this round's."""
    dataset = read_dataset(settings.data.dir, settings.data.max_text_chars)
    return replace(dataset, catalogue=with_posted(dataset.catalogue, opened(settings)))


def learn(settings: Settings, manifest: SnapshotManifest, validated: Validated) -> Trained:
    """Score the snapshot with the champion, learn from it, export a bundle.

    Raises:
        EmptyWindow, TrainingError, ExportError: nothing came of it that may be kept. The round is recorded as failed
            and its snapshot as seen, so that it cannot stop every later round; the champion keeps serving.
    """
    state = opened(settings)
    begin(state, round_id_of(manifest), manifest)
    try:
        return _learn(settings, state, manifest, validated)
    except CANNOT_LEARN as error:
        record(settings, state, stopped(manifest, "failed", error), learned=True)
        raise


def _learn(settings: Settings, state: State, manifest: SnapshotManifest, validated: Validated) -> Trained:
    stages = Stages()
    stages.seconds["validate"] = validated.seconds
    round_id = round_id_of(manifest)
    registry = open_registry(settings, state)
    pointer = registry.champion_pointer()
    champion = Scorer.load(pointer.bundle_dir) if pointer else None
    learner, causal, carried = start_from(settings, state)
    work = ROUND_TASKS[settings.task](
        settings, learner, causal, dataset_of(settings).catalogue, champion, replace(carried)
    )
    stages.done("load")
    work.take_in()
    for missed in missed_snapshots(state, manifest, carried.snapshots):
        held = [entry.event_id for entry in list_quarantine(state, None, missed.snapshot_id)]
        seen = read_snapshot(missed).filter(~pl.col("event_id").is_in(held))
        work.observe(seen, datetime.fromisoformat(missed.window_end))
        work.carried.snapshots = [*work.carried.snapshots, missed.snapshot_id]
    stages.done("new items and missed events")
    report, metrics = work.learn(validated.events, datetime.fromisoformat(manifest.window_end))
    stages.split("features and scores", {"learning": report.seconds, "encoder": report.text_seconds})
    lineage = Lineage(
        settings.task,
        round_id,
        manifest.snapshot_id,
        manifest.sha256,
        pointer.number if pointer else None,
        git_commit(),
        settings.sha256(),
        settings.seed,
        datetime.fromisoformat(manifest.window_end),
        library_versions(),
        _data_md5(state, [*work.carried.snapshots, manifest.snapshot_id]),
    )
    folder = round_folder(settings, round_id)
    writer = BundleWriter(folder / "bundle")
    with InfraCheck(settings) as infra:
        work.write(writer, graph_cache(settings), stages)
        rows = rows_seen(state, manifest, work.carried.snapshots)
        digest = writer.finish(lineage, work.model_facts(), causal.spec, rows)
        infra.ask(folder / "bundle", digest)
        stages.done("manifest")
        work.carried.snapshots = [*work.carried.snapshots, manifest.snapshot_id]
        save_checkpoint(learner, causal, work.carried, folder / CHECKPOINT)
        stages.done("checkpoint")
        verdict = infra.verdict()
        stages.done("fresh process")
    metrics = {**metrics, **work.metrics, "loss": report.loss}
    return Trained(manifest, work, report, folder / "bundle", digest, lineage, metrics, verdict, stages.seconds)


def _data_md5(state: State, names: list[str]) -> str | None:
    known = {one.snapshot_id: one for one in list_snapshots(state)}
    return tree_md5([known[name] for name in names])


def judge(settings: Settings, trained: Trained) -> Judged:
    """Every gate's verdict on the exported bundle, written as JSON and as a page.

    Raises:
        LeaseLost: this worker held the lease of rounds and lost it.
    """
    started, now = time.perf_counter(), datetime.now(UTC)
    work, round_id, state = trained.round, trained.lineage.round_id, opened(settings)
    champion_digest = work.champion.digest if work.champion is not None else None
    budget = round_budget(settings.gates, state, round_id, now)
    docs = next(iter((round_folder(settings, round_id) / "data-docs" / "validations").rglob("*.html")), None)
    gates = judge_gates(
        work.evidence(trained.bundle, trained.infra),
        settings.gates,
        settings.seed,
        budget,
        challenger_digest=trained.digest,
        champion_digest=champion_digest,
        snapshot_id=trained.manifest.snapshot_id,
        created_at=now.isoformat(),
        extra={
            "round_id": round_id,
            "parent_version": trained.lineage.parent_version,
            "data_docs": None if docs is None else DATA_DOCS,
        },
    )
    p_value = gates.extra["false_promotions"]["p_value"]
    if p_value is not None:
        note_judgement(settings, state, round_id, budget, p_value, now)
    report_dir = round_folder(settings, round_id) / "gates"
    write_report(gates, report_dir)
    if docs is not None:
        shutil.copyfile(docs, report_dir / DATA_DOCS)
    trained.stages_s["gate"] = time.perf_counter() - started
    return Judged(trained, gates, report_dir)


def decide(settings: Settings, judged: Judged, requester: str = REQUESTER) -> RoundResult:
    """Register the bundle; promote it when the policy says so and every gate passed.

    Args:
        requester: who asked for the round, and so cannot approve what came of it; a scheduled one the machine did.
    """
    state = opened(settings)
    registry = open_registry(settings, state)
    trained, gates = judged.trained, judged.gates
    run_id = track(settings, registry, trained)
    version = registry.register(
        trained.bundle,
        gates,
        trained.lineage,
        {},
        run_id=run_id,
        report_dir=judged.report_dir,
        requester=requester,
    )
    outcome: Outcome = "waiting"
    reason = "all gates passed; waits for approval"
    if not gates.passed:
        outcome, reason = "refused", f"gates refused: {', '.join(gates.refusals)}"
    elif settings.promotion.policy == "automatic":
        serving = registry.champion_pointer()
        expect = serving.number if serving else None
        promote(registry, state, version.number, "policy", "all gates passed", expect, datetime.now(UTC))
        outcome, reason = "promoted", "all gates passed; promoted by policy"
    result = RoundResult(
        trained.lineage.round_id,
        trained.manifest.snapshot_id,
        outcome,
        version.number,
        trained.digest,
        reason,
        trained.stages_s,
        trained.metrics,
    )
    record(settings, state, result, learned=True)
    if outcome != "refused":
        keep(settings, trained.lineage.round_id)
    clear(settings, trained.lineage.round_id)
    return result


def run_round(settings: Settings, now: datetime | None = None, requester: str = REQUESTER) -> RoundResult | None:
    """All stages in order, under the lease, without Prefect; None when too few events are pending.

    Raises:
        LeaseHeld: another round is running.
    """
    with round_lease(settings):
        manifest = close(settings, now)
        if manifest is None:
            return None
        try:
            trained = learn(settings, manifest, validate(settings, manifest))
        except SnapshotRefused as error:
            return stopped(manifest, "quarantined", error)
        except CANNOT_LEARN as error:
            return stopped(manifest, "failed", error)
        return decide(settings, judge(settings, trained), requester)


def graph_cache(settings: Settings) -> Path:
    """Where exported graph templates are kept."""
    return settings.state.home / "graphs"


def git_commit() -> str:
    """The project's commit, "unknown" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
