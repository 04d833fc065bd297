"""The stages of one round: close, validate, learn, judge, decide. Flows and the command line only order them.

What a stage leaves on disk is whole or absent, and every stage derives from the snapshot, the parent checkpoint and
the seed; so a round that was killed is taken up by running its stages again.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.data import leases
from penstock.data.dataset import Dataset, read_dataset
from penstock.data.expectations import validate_snapshot
from penstock.data.quarantine import quarantine_rows, quarantine_snapshot
from penstock.data.snapshot import close_snapshot, list_snapshots, mark_learned, read_snapshot, recent_snapshots
from penstock.data.state import State, open_state, rounds, to_micros
from penstock.errors import PenstockError, SnapshotRefused
from penstock.evaluation.gates import judge as judge_gates
from penstock.evaluation.gates import write_report
from penstock.export.bundle import BundleWriter, library_versions
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.scorer import Scorer
from penstock.pipeline.classify_round import ClassifyRound
from penstock.pipeline.rank_round import RankRound
from penstock.pipeline.upkeep import ROUND_LEASE
from penstock.records import GateReport, Lineage, Outcome, RoundResult, SnapshotManifest
from penstock.registry.promotion import promote
from penstock.registry.store import Registry, open_registry
from penstock.registry.tracking import RoundTracker
from penstock.settings import Settings
from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
from penstock.training.learner import Learner, LearnReport

CHECKPOINT = "checkpoint"
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


def round_folder(settings: Settings, round_id: str) -> Path:
    """Where a round keeps its bundle, checkpoint and report."""
    return settings.state.home / "rounds" / round_id


@contextmanager
def round_lease(settings: Settings) -> Iterator[leases.Lease]:
    """Hold the lease of rounds; never two at once.

    Raises:
        LeaseHeld: another round is running.
    """
    state = opened(settings)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    lease = leases.acquire(state, ROUND_LEASE, holder, settings.state.lease_s, datetime.now(UTC))
    try:
        yield lease
    finally:
        leases.release(state, lease)


def opened(settings: Settings) -> State:
    """The state database with its tables."""
    state = open_state(settings.state.url)
    state.ensure()
    return state


def close(settings: Settings, now: datetime | None = None) -> SnapshotManifest | None:
    """The snapshot whose turn it is: one that an interrupted round left, else the next window; None when too few
    events are pending."""
    state = opened(settings)
    left = list_snapshots(state, status="closed")
    if left:
        return left[0]
    return close_snapshot(state, settings, now or datetime.now(UTC))


def validate(settings: Settings, manifest: SnapshotManifest) -> Validated:
    """Check the snapshot; bad rows go to quarantine with their reasons.

    Raises:
        SnapshotRefused: the snapshot as a whole; it is in quarantine and nothing was learned from it.
        SchemaError: the snapshot's file was altered.
    """
    state = opened(settings)
    started = time.perf_counter()
    events = read_snapshot(manifest)
    known = dataset_of(settings).catalogue["item_id"].to_list()
    docs = round_folder(settings, round_id_of(manifest)) / "data-docs"
    recent = recent_snapshots(state, manifest, settings.validation.history_snapshots)
    verdict = validate_snapshot(events, manifest, known, settings, recent, docs)
    if verdict.refused:
        reason = "; ".join(verdict.reasons)
        quarantine_snapshot(state, manifest, verdict.reasons)
        raise SnapshotRefused(
            f"snapshot {manifest.snapshot_id} ({manifest.rows} rows) refused: {reason}; it is in quarantine, "
            "see `penstock quarantine`"
        )
    if len(verdict.bad):
        quarantine_rows(state, manifest, verdict.bad)
    return Validated(verdict.good, len(verdict.bad), verdict.docs, time.perf_counter() - started)


def refuse(settings: Settings, manifest: SnapshotManifest, error: SnapshotRefused) -> RoundResult:
    """Record that a snapshot stopped its round."""
    result = RoundResult(
        round_id_of(manifest), manifest.snapshot_id, "quarantined", None, None, str(error), {}, {}
    )
    _record(opened(settings), result, learned=False)
    return result


def dataset_of(settings: Settings) -> Dataset:
    """The catalogue and what is known of the data; its events are history, not this round's."""
    return read_dataset(settings.data.dir, settings.data.max_text_chars)


def learn(settings: Settings, manifest: SnapshotManifest, validated: Validated) -> Trained:
    """Score the snapshot with the champion, learn from it, export a bundle.

    Raises:
        PenstockError: nothing could be learned or exported; the champion keeps serving.
    """
    state = opened(settings)
    round_id = round_id_of(manifest)
    _begin(state, round_id, manifest)
    registry = open_registry(settings, state)
    pointer = registry.champion_pointer()
    champion = Scorer.load(pointer.bundle_dir) if pointer else None
    learner, causal, carried = _start_from(settings, state)
    work = ROUND_TASKS[settings.task](
        settings, learner, causal, dataset_of(settings).catalogue, champion, replace(carried)
    )
    stages: dict[str, float] = {"validate": validated.seconds}
    started = time.perf_counter()
    work.take_in()
    for missed in _missed(state, manifest, carried):
        work.observe(read_snapshot(missed))
        work.carried.snapshots = [*work.carried.snapshots, missed.snapshot_id]
    stages["prepare"] = time.perf_counter() - started
    started = time.perf_counter()
    report, metrics = work.learn(validated.events)
    stages["score and learn"] = time.perf_counter() - started
    started = time.perf_counter()
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
    )
    folder = round_folder(settings, round_id)
    writer = BundleWriter(folder / "bundle")
    work.write(writer, graph_cache(settings))
    digest = writer.finish(lineage, work.model_facts(), causal.spec)
    stages["export and compare"] = time.perf_counter() - started
    work.carried.snapshots = [*work.carried.snapshots, manifest.snapshot_id]
    save_checkpoint(learner, causal, work.carried, folder / CHECKPOINT)
    metrics = {**metrics, **work.metrics, "loss": report.loss}
    return Trained(manifest, work, report, folder / "bundle", digest, lineage, metrics, stages)


def judge(settings: Settings, trained: Trained) -> Judged:
    """Every gate's verdict on the exported bundle, written as JSON and as a page."""
    started = time.perf_counter()
    work = trained.round
    champion_digest = work.champion.digest if work.champion is not None else None
    gates = judge_gates(
        work.challenger_scores,
        work.champion_scores,
        work.facts(trained.bundle),
        settings.gates,
        settings.seed,
        challenger_digest=trained.digest,
        champion_digest=champion_digest,
        snapshot_id=trained.manifest.snapshot_id,
        created_at=datetime.now(UTC).isoformat(),
        extra={"round_id": trained.lineage.round_id, "parent_version": trained.lineage.parent_version},
    )
    report_dir = round_folder(settings, trained.lineage.round_id) / "gates"
    write_report(gates, report_dir)
    trained.stages_s["gate"] = time.perf_counter() - started
    return Judged(trained, gates, report_dir)


def decide(settings: Settings, judged: Judged) -> RoundResult:
    """Register the bundle; promote it when the policy says so and every gate passed."""
    state = opened(settings)
    registry = open_registry(settings, state)
    trained, gates = judged.trained, judged.gates
    run_id = _track(settings, registry, trained)
    version = registry.register(
        trained.bundle, gates, trained.lineage, {}, run_id=run_id, report_dir=judged.report_dir
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
    _record(state, result, learned=True)
    if outcome != "refused":
        _keep_checkpoint(settings, trained.lineage.round_id)
    return result


def run_round(settings: Settings, now: datetime | None = None) -> RoundResult | None:
    """All stages in order, under the lease, without Prefect; None when too few events are pending.

    Raises:
        LeaseHeld: another round is running.
    """
    with round_lease(settings):
        manifest = close(settings, now)
        if manifest is None:
            return None
        try:
            validated = validate(settings, manifest)
        except SnapshotRefused as error:
            return refuse(settings, manifest, error)
        return decide(settings, judge(settings, learn(settings, manifest, validated)))


def fail(settings: Settings, manifest: SnapshotManifest, error: PenstockError) -> RoundResult:
    """Record that a round ended in an error; its snapshot counts as seen, and is not learned from again."""
    result = RoundResult(round_id_of(manifest), manifest.snapshot_id, "failed", None, None, str(error), {}, {})
    _record(opened(settings), result, learned=True)
    return result


def graph_cache(settings: Settings) -> Path:
    """Where exported graph templates are kept."""
    return settings.state.home / "graphs"


def git_commit() -> str:
    """The project's commit, "unknown" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _start_from(settings: Settings, state: State) -> tuple[Learner, CausalState, Carried]:
    newest = settings.state.home / "checkpoints" / "newest.json"
    if newest.exists():
        folder = settings.state.home / "checkpoints" / json.loads(newest.read_text())["folder"]
        return load_checkpoint(folder, settings)
    spec = FeatureSpec.of(settings)
    return Learner(settings, spec), CausalState(spec), Carried()


def _keep_checkpoint(settings: Settings, round_id: str) -> None:
    """Make this round's checkpoint the one that the next starts from; the one before is kept, older ones go."""
    root = settings.state.home / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    source, kept = round_folder(settings, round_id) / CHECKPOINT, root / round_id
    if source.exists():
        shutil.rmtree(kept, ignore_errors=True)
        source.rename(kept)
    pointer = root / "newest.json"
    before = json.loads(pointer.read_text())["folder"] if pointer.exists() else None
    part = root / "newest.json.part"
    part.write_text(json.dumps({"folder": round_id}))
    part.replace(pointer)
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in (round_id, before):
            shutil.rmtree(folder)


def _missed(state: State, manifest: SnapshotManifest, carried: Carried) -> list[SnapshotManifest]:
    """Learned snapshots that this checkpoint has not taken in: those of refused or failed rounds."""
    learned = list_snapshots(state, status="learned")
    return [one for one in learned if one.snapshot_id not in set(carried.snapshots) | {manifest.snapshot_id}]


def _begin(state: State, round_id: str, manifest: SnapshotManifest) -> None:
    now = to_micros(datetime.now(UTC))
    with state.write() as conn:
        found = conn.execute(sa.select(rounds.c.round_id).where(rounds.c.round_id == round_id)).one_or_none()
        if found is None:
            conn.execute(
                sa.insert(rounds).values(
                    round_id=round_id, snapshot_id=manifest.snapshot_id, status="running", started_at=now
                )
            )


def _record(state: State, result: RoundResult, learned: bool) -> None:
    now = to_micros(datetime.now(UTC))
    values = {
        "status": "done",
        "outcome": result.outcome,
        "version": result.version,
        "bundle_digest": result.bundle_digest,
        "result": json.dumps(asdict(result)),
        "ended_at": now,
    }
    with state.write() as conn:
        done = conn.execute(sa.update(rounds).where(rounds.c.round_id == result.round_id).values(**values))
        if done.rowcount == 0:
            keys = {"round_id": result.round_id, "snapshot_id": result.snapshot_id, "started_at": now}
            conn.execute(sa.insert(rounds).values(**keys, **values))
        if learned:
            mark_learned(conn, result.snapshot_id)


def _track(settings: Settings, registry: Registry, trained: Trained) -> str:
    with RoundTracker(settings, trained.lineage.round_id, registry.backend) as tracker:
        tracker.params({"task": settings.task, "training": settings.training.model_dump(mode="json")})
        for step, loss, rate, norm in trained.report.curve:
            tracker.metric("loss", loss, step)
            tracker.metric("learning_rate", rate, step)
            tracker.metric("gradient_norm", norm, step)
        last = trained.report.curve[-1][0] if trained.report.curve else 0
        per_s = len(trained.report.curve) and trained.report.requests / max(trained.report.seconds, 1e-9)
        tracker.metric("examples_per_s", float(per_s), last)
        for name, value in trained.metrics.items():
            if value == value:
                tracker.metric(name, value, last)
        for name, seconds in trained.stages_s.items():
            tracker.metric(f"seconds_{name.replace(' ', '_')}", seconds, last)
        return tracker.run_id


