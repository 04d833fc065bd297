"""Everything a round starts from, on disk: weights, optimisers, replay, causal state. safetensors and JSON only."""

import json
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from penstock.data.tables import read_table, write_table
from penstock.errors import BundleError, TrainingError
from penstock.features.examples import Examples, Labelled
from penstock.features.state import CausalState
from penstock.records import EVENT_COLUMNS, EVENT_REQUIRED
from penstock.settings import Settings
from penstock.training.anchors import Anchor
from penstock.training.learner import Learner
from penstock.training.replay import Batch
from penstock.training.steps import WeightAverage, optimizer_arrays, restore_optimizer

ANCHOR, UNIT, THEN = "anchor", "anchor_unit", "anchor_then"
UNCOUNTED = "uncounted.parquet"


@dataclass
class Carried:
    """What one round hands to the next beside the learner.

    Attributes:
        snapshots: ids of the snapshots that the state has taken in.
        held_out: requests that the gates were measured on, learned from in the next round.
        version: the version that the round became, once it is registered.
        anchors: held-out requests of earlier rounds, newest first, that gates measure forgetting on.
        uncounted: events that labelled a request of the last window and happened after it; to be counted next.
    """

    snapshots: list[str] = field(default_factory=list)
    held_out: Batch | None = None
    version: str | None = None
    anchors: list[Anchor] = field(default_factory=list)
    uncounted: pl.DataFrame | None = None


def save_checkpoint(learner: Learner, state: CausalState, carried: Carried, folder: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        TrainingError: a weight is not finite.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    tensors: dict[str, torch.Tensor] = {}
    tensors |= {f"network.{name}": value for name, value in learner.network.state_dict().items()}
    tensors |= {f"live.{place}": value for place, value in enumerate(learner.average.live)}
    tensors |= {f"text.{name}": value for name, value in learner.encoder.tuned_state().items()}
    tensors |= {f"head_optimizer.{k}": v for k, v in optimizer_arrays(learner.head_optimizer).items()}
    if learner.text_optimizer is not None:
        tensors |= {f"text_optimizer.{k}": v for k, v in optimizer_arrays(learner.text_optimizer).items()}
    tensors["rows.accumulator"] = learner.rows.accumulator_N
    tensors["text_table"] = learner.text_NT
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TrainingError(f"checkpoint: {name} holds a value that is not finite; nothing was written")
    for prefix, batch in (("replay", learner.reservoir.kept), ("held_out", carried.held_out)):
        if batch is not None and len(batch):
            tensors |= {f"{prefix}.{f.name}": torch.from_numpy(getattr(batch, f.name)) for f in fields(batch)}
    for place, anchor in enumerate(carried.anchors):
        arrays = {f.name: getattr(anchor.batch, f.name) for f in fields(anchor.batch)}
        arrays |= {UNIT: anchor.unit_R, THEN: anchor.then_R}
        tensors |= {f"{ANCHOR}{place}.{name}": torch.from_numpy(value) for name, value in arrays.items()}
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, part / "learner.safetensors"
    )
    state.save(part / "state")
    meta = {
        "texts": learner.texts,
        "rounds": learner.rounds,
        "step_count": learner.step_count,
        "loss_mean": learner.guard.mean,
        "round_loss_mean": learner.rate.mean,
        "replay_seen": learner.reservoir.seen,
        "snapshots": carried.snapshots,
        "version": carried.version,
        "anchors": [{"round": one.round, "until": one.until} for one in carried.anchors],
    }
    if carried.uncounted is not None and len(carried.uncounted):
        write_table(carried.uncounted, part / UNCOUNTED)
    (part / "meta.json").write_text(json.dumps(meta))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_checkpoint(folder: Path, settings: Settings) -> tuple[Learner, CausalState, Carried]:
    """The inverse of `save_checkpoint`.

    Raises:
        BundleError: a file is missing, does not parse, or is of another architecture.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        tensors = load_file(folder / "learner.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"checkpoint {folder} cannot be read ({error}); remove the checkpoints folder to start from the "
            "pretrained encoder"
        ) from error
    state = CausalState.load(folder / "state")
    learner = Learner(settings, state.spec)
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        group, _, key = name.partition(".")
        groups.setdefault(group, {})[key] = value
    try:
        _restore(learner, groups, meta, tensors)
    except (RuntimeError, KeyError) as error:
        raise BundleError(
            f"checkpoint {folder} is of another architecture than params.yaml's model and text sections: {error}"
        ) from error
    held_out = _batch(groups.get("held_out"))
    anchors = [_anchor(groups[f"{ANCHOR}{place}"], **one) for place, one in enumerate(meta.get("anchors", []))]
    left = folder / UNCOUNTED
    uncounted = read_table(left, EVENT_COLUMNS, EVENT_REQUIRED) if left.exists() else None
    return learner, state, Carried(meta["snapshots"], held_out, meta["version"], anchors, uncounted)


def _restore(
    learner: Learner, groups: dict[str, dict[str, torch.Tensor]], meta: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    learner.encoder.load_tuned(groups.get("text", {}))
    learner.task.restore(groups["network"])
    learner.network.to(learner.device).eval()
    learner.average = WeightAverage(learner.average.parameters, learner.average.decay)
    for place, live in enumerate(learner.average.live):
        live.copy_(groups.get("live", {}).get(str(place), live))  # kept without averaging: they are the network's
    learner.head_optimizer = learner.make_head_optimizer()
    restore_optimizer(learner.head_optimizer, groups.get("head_optimizer", {}))
    if learner.text_optimizer is not None:
        restore_optimizer(learner.text_optimizer, groups.get("text_optimizer", {}))
    learner.rows.accumulator_N = tensors["rows.accumulator"].to(learner.device)
    learner.texts, learner.text_NT = list(meta["texts"]), tensors["text_table"]
    learner.stale_N = np.ones(len(learner.texts), bool)  # which of them are is not written down
    learner.rounds, learner.step_count = int(meta["rounds"]), int(meta["step_count"])
    learner.guard.mean, learner.rate.mean = meta["loss_mean"], meta.get("round_loss_mean")  # older ones lack it
    learner.reservoir.kept, learner.reservoir.seen = _batch(groups.get("replay")), int(meta["replay_seen"])


def _anchor(arrays: dict[str, torch.Tensor], round: int, until: str) -> Anchor:
    rest = {name: value for name, value in arrays.items() if name not in (UNIT, THEN)}
    batch = _batch(rest)
    assert batch is not None  # an anchor without requests is never kept
    return Anchor(round, until, arrays[UNIT].numpy(), batch, arrays[THEN].numpy())


def _batch(arrays: dict[str, torch.Tensor] | None) -> Batch | None:
    if not arrays:
        return None
    values: dict[str, np.ndarray] = {name: value.numpy() for name, value in arrays.items()}
    return Labelled(**values) if "label_R" in values else Examples(**values)
