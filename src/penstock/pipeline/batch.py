"""The stages of the batch pipeline, one function each; dvc.yaml calls them as `penstock stage NAME`.

A stage reads what the stages before it left under artifacts/ and leaves its own folder there, whole or not at all.
Equal inputs and settings give equal metrics, byte for byte. Nothing is registered or promoted here.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock.data.dataset import read_dataset
from penstock.data.expectations import refusal, validate_snapshot
from penstock.data.simulate import TRUTH_FILE
from penstock.data.snapshot import describe, read_snapshot
from penstock.data.tables import file_sha256, read_table, write_table
from penstock.errors import DataError, EmptyWindow
from penstock.evaluation.whole_file import write_whole
from penstock.export.bundle import BundleWriter, library_versions
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.scorer import Scorer
from penstock.pipeline.holdout import measure_classification, measure_ranking
from penstock.pipeline.measures import folder_mb
from penstock.pipeline.online import ROUND_TASKS, git_commit, graph_cache
from penstock.records import (
    CATALOGUE_COLUMNS,
    CATALOGUE_REQUIRED,
    EVENT_COLUMNS,
    EVENT_REQUIRED,
    Lineage,
    SnapshotManifest,
    plain_json,
)
from penstock.settings import Settings
from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
from penstock.training.learner import Learner

ARTIFACTS = Path("artifacts")
TRAIN, HOLDOUT, CATALOGUE = "train.parquet", "holdout.parquet", "catalogue.parquet"
MANIFEST, GOOD, METRICS = "manifest.json", "good.parquet", "metrics.json"
DIGITS = 6


def prepare(settings: Settings) -> dict[str, Any]:
    """Split the dataset by time: the newest `training.holdout_share` of the events is held out.

    Raises:
        SchemaError: the dataset breaks its contract.
        EmptyWindow: one of the two parts would be empty.
    """
    dataset = read_dataset(settings.data.dir, settings.data.max_text_chars)
    events = dataset.events
    boundary: datetime = events["at"][int(len(events) * (1 - settings.training.holdout_share))]
    train, holdout = events.filter(pl.col("at") < boundary), events.filter(pl.col("at") >= boundary)
    if train.is_empty() or holdout.is_empty():
        raise EmptyWindow(
            f"{settings.data.dir}: {len(events)} events split at {boundary} leave {len(train)} to learn from and "
            f"{len(holdout)} to measure on, expected both; change training.holdout_share or bring more data"
        )
    with _outputs("prepare") as folder:
        write_table(train, folder / TRAIN)
        write_table(holdout, folder / HOLDOUT)
        write_table(dataset.catalogue, folder / CATALOGUE)
        manifest = describe(train, file_sha256(folder / TRAIN), train["at"][0], boundary, boundary)
        manifest = replace(manifest, path=(ARTIFACTS / "prepare" / TRAIN).as_posix())
        _write_json(folder / MANIFEST, asdict(manifest))
    return {"train_events": len(train), "holdout_events": len(holdout), "boundary": boundary.isoformat()}


def validate(settings: Settings) -> dict[str, Any]:
    """Check the training events by the rules of the rounds; only good rows go on. Data Docs stay even when refused.

    Raises:
        SnapshotRefused: the events as a whole may not be learned from.
        SchemaError: the file was altered since `prepare`.
    """
    manifest = _manifest()
    events = read_snapshot(manifest)
    known = _prepared_catalogue()["item_id"].to_list()
    with _outputs("validate") as folder:
        verdict = validate_snapshot(events, manifest, known, settings, [], folder / "data-docs")
        facts = {
            "rows": len(events),
            "good": len(verdict.good),
            "bad": len(verdict.bad),
            "refused": verdict.refused,
            "broken_by_rule": {rule: count for rule, count in sorted(verdict.counts.items()) if count},
        }
        _write_json(folder / METRICS, facts)
        docs = None if verdict.docs is None else ARTIFACTS / "validate" / verdict.docs.relative_to(folder)
        if not verdict.refused:
            write_table(verdict.good, folder / GOOD)
            write_table(verdict.bad, folder / "bad.parquet")
    if verdict.refused:
        raise refusal(manifest, replace(verdict, docs=docs))
    return facts


def train(settings: Settings) -> dict[str, Any]:
    """Learn from every good event, from scratch; leaves a checkpoint.

    Raises:
        EmptyWindow: no request led to anything.
        TrainingError: the loss is not finite or spikes.
    """
    manifest, events = _manifest(), _events(ARTIFACTS / "validate" / GOOD)
    spec = FeatureSpec.of(settings)
    learner, state = Learner(repeatable(settings), spec), CausalState(spec)
    work = ROUND_TASKS[settings.task](settings, learner, state, _prepared_catalogue(), None, Carried())
    work.take_in()
    report = work.learn_all(events)
    facts = {
        "requests": report.requests,
        "steps": len(report.curve),
        "loss": report.loss,
        "first_loss": report.curve[0][1],
        "last_loss": report.curve[-1][1],
    }
    with _outputs("train") as folder:
        save_checkpoint(learner, state, Carried([manifest.snapshot_id]), folder / "checkpoint")
        _write_json(folder / METRICS, facts)
    return {**facts, "seconds": round(report.seconds + report.text_seconds, 2)}


def export(settings: Settings) -> dict[str, Any]:
    """Write the checkpoint as a bundle, parity against torch asserted.

    Raises:
        BundleError: the checkpoint is of another architecture, or not whole.
        ExportError: the graphs do not reproduce the model.
    """
    manifest = _manifest()
    learner, state, carried = load_checkpoint(ARTIFACTS / "train" / "checkpoint", repeatable(settings))
    work = ROUND_TASKS[settings.task](settings, learner, state, _prepared_catalogue(), None, carried)
    lineage = Lineage(
        settings.task,
        f"rebuild-{manifest.snapshot_id}",
        manifest.snapshot_id,
        manifest.sha256,
        None,
        git_commit(),
        settings.sha256(),
        settings.seed,
        datetime.fromisoformat(manifest.window_end),
        library_versions(),
    )
    with _outputs("export") as folder:
        writer = BundleWriter(folder / "bundle")
        parity = work.write_unjudged(writer, graph_cache(settings))
        digest = writer.finish(lineage, work.model_facts(), state.spec)
        facts = {"parity_error": parity, "size_mb": round(folder_mb(folder / "bundle"), 1)}
        _write_json(folder / METRICS, facts)
    return {**facts, "bundle": (ARTIFACTS / "export" / "bundle").as_posix(), "digest": digest}


def evaluate(settings: Settings) -> dict[str, Any]:
    """Measure the exported bundle on the holdout, beside baselines.

    Raises:
        BundleError: the bundle was altered or is not whole.
        EmptyWindow: the holdout holds nothing to measure on.
    """
    scorer = Scorer.load(ARTIFACTS / "export" / "bundle")
    learned, held = _events(ARTIFACTS / "prepare" / TRAIN), _events(ARTIFACTS / "prepare" / HOLDOUT)
    if settings.task == "classify":
        facts = measure_classification(scorer, held, learned)
    else:
        truth = settings.data.dir / TRUTH_FILE
        known = pl.read_parquet(truth) if truth.exists() else None
        facts = measure_ranking(scorer, held, learned["request_id"].drop_nulls().unique(), known, settings)
    with _outputs("evaluate") as folder:
        _write_json(folder / METRICS, facts)
    return facts


@contextmanager
def _outputs(stage: str) -> Iterator[Path]:
    """A folder to fill; it becomes artifacts/<stage> when the block ends without an error."""
    folder, part = ARTIFACTS / stage, ARTIFACTS / f".{stage}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise DataError(
            f"stage {stage}: {folder} cannot be written ({error.strerror or error}); free the disk or run from a "
            "folder this user may write"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    text = json.dumps(plain_json(_rounded(facts)), indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_whole(path, text.encode())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value


def _manifest() -> SnapshotManifest:
    path = ARTIFACTS / "prepare" / MANIFEST
    try:
        return SnapshotManifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} cannot be used ({error}); run the stages in order, `dvc repro` does, from the project's folder"
        ) from error


def _events(path: Path) -> pl.DataFrame:
    return read_table(path, EVENT_COLUMNS, EVENT_REQUIRED)


def _prepared_catalogue() -> pl.DataFrame:
    return read_table(ARTIFACTS / "prepare" / CATALOGUE, CATALOGUE_COLUMNS, CATALOGUE_REQUIRED)


def repeatable(settings: Settings) -> Settings:
    """The same without activations kept from elsewhere: in which company a text was encoded moves its last bits."""
    return settings.override({"text.cache_mb": 0})
