"""What the results of a backtest depend on, so that a folder never mixes two of them."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from penstock.data.dataset import CATALOGUE_FILE, EVENTS_FILE, META_FILE
from penstock.data.tables import file_sha256
from penstock.settings import Settings

# What changes no ranking: where things are kept, how they are served, who may release them.
BESIDE_THE_POINT = ("state", "registry", "schedule", "simulate", "promotion", "gates")


def fingerprint(folder: Path, settings: Settings, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a backtest's results depend on.

    Raises:
        OSError: the log cannot be read.
    """
    tree = settings.model_dump(mode="json", exclude=set(BESIDE_THE_POINT))
    tree["data"].pop("dir")
    tree["service"] = {"candidates": settings.service.candidates}
    versions = {name: importlib.metadata.version(name) for name in ("penstock", "torch", "numpy")}
    log = {name: file_sha256(folder / name) for name in (EVENTS_FILE, CATALOGUE_FILE, META_FILE)}
    return {"log": log, "arguments": arguments, "settings": tree, "versions": versions}


def differences(found: Any, mine: Any, at: str = "") -> list[str]:
    """Where two trees differ, as dotted keys with both values."""
    if isinstance(found, dict) and isinstance(mine, dict):
        keys = sorted(set(found) | set(mine))
        return [
            line for key in keys for line in differences(found.get(key), mine.get(key), f"{at}.{key}" if at else key)
        ]
    return [] if found == mine else [f"{at} was {_short(found)}, is now {_short(mine)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
