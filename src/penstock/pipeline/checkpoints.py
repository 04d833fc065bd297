"""Where rounds keep what the next one starts from: this round's checkpoint becomes the newest, older ones go."""

import json
import shutil
from pathlib import Path

from penstock.data.state import State
from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.ledger import newest_kept_round
from penstock.settings import Settings
from penstock.training.checkpoint import Carried, load_checkpoint
from penstock.training.learner import Learner

CHECKPOINT = "checkpoint"


def round_folder(settings: Settings, round_id: str) -> Path:
    """Where a round keeps its bundle, checkpoint and report."""
    return settings.state.home / "rounds" / round_id


def start_from(settings: Settings, state: State) -> tuple[Learner, CausalState, Carried]:
    """What the last kept round ended with; empty where there was none.

    A crash between the record of a round and the move of its checkpoint is made good here.
    """
    kept = newest_kept_round(state)
    if kept is not None and kept != newest(settings) and _exists(settings, kept):
        keep(settings, kept)
    folder = newest(settings)
    if folder is not None:
        return load_checkpoint(_root(settings) / folder, settings)
    spec = FeatureSpec.of(settings)
    return Learner(settings, spec), CausalState(spec), Carried()


def newest(settings: Settings) -> str | None:
    """The round whose checkpoint is the newest kept one."""
    pointer = _root(settings) / "newest.json"
    return str(json.loads(pointer.read_text())["folder"]) if pointer.exists() else None


def keep(settings: Settings, round_id: str) -> None:
    """Make this round's checkpoint the one that the next starts from; the one before is kept, older ones go."""
    root = _root(settings)
    root.mkdir(parents=True, exist_ok=True)
    source, kept = round_folder(settings, round_id) / CHECKPOINT, root / round_id
    if source.exists():
        shutil.rmtree(kept, ignore_errors=True)
        source.rename(kept)
    before = newest(settings)
    part = root / "newest.json.part"
    part.write_text(json.dumps({"folder": round_id}))
    part.replace(root / "newest.json")
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in (round_id, before):
            shutil.rmtree(folder)


def clear(settings: Settings, round_id: str) -> None:
    """Remove what a recorded round needs no more: its copy of the bundle, and a checkpoint that was not kept."""
    for name in ("bundle", CHECKPOINT):
        folder = round_folder(settings, round_id) / name
        if folder.exists():
            shutil.rmtree(folder)


def _root(settings: Settings) -> Path:
    return settings.state.home / "checkpoints"


def _exists(settings: Settings, round_id: str) -> bool:
    return (round_folder(settings, round_id) / CHECKPOINT).exists() or (_root(settings) / round_id).exists()
