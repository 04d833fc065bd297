"""All of params.yaml as one tree, and how it is read."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from penstock.errors import SettingsError
from penstock.records import Task
from penstock.settings.data import DataSettings, SourceSettings, StateSettings, SuspectSettings, ValidationSettings
from penstock.settings.learning import (
    ClassifierSettings,
    ExportSettings,
    FeatureSettings,
    ModelSettings,
    TextSettings,
    TrainingSettings,
)
from penstock.settings.measuring import BacktestSettings, BaselineSettings, SimulateSettings
from penstock.settings.releasing import GateSettings, PromotionSettings, RegistrySettings, ScheduleSettings
from penstock.settings.section import Section
from penstock.settings.serving import PolicySettings, RolloutSettings, ServiceSettings

PREFIX = "PENSTOCK__"
PARAMS_FILE = "PENSTOCK_PARAMS"


class Settings(Section):
    """All of params.yaml."""

    task: Task
    seed: int
    state: StateSettings
    data: DataSettings
    sources: SourceSettings
    validation: ValidationSettings
    suspects: SuspectSettings
    features: FeatureSettings
    text: TextSettings
    model: ModelSettings
    classifier: ClassifierSettings
    training: TrainingSettings
    export: ExportSettings
    gates: GateSettings
    promotion: PromotionSettings
    registry: RegistrySettings
    service: ServiceSettings
    rollout: RolloutSettings
    policy: PolicySettings
    schedule: ScheduleSettings
    backtest: BacktestSettings
    baselines: BaselineSettings
    simulate: SimulateSettings

    def sha256(self) -> str:
        """Digest of every value; equal settings have equal digests."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def override(self, changes: Mapping[str, Any]) -> "Settings":
        """A copy with dotted keys replaced, validated again: ``override({"gates.min_requests": 5})``."""
        tree = self.model_dump(mode="json")
        for dotted, value in changes.items():
            _set(tree, dotted.split("."), value)
        return _validated(tree, "override")


def load_settings(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read params.yaml and apply the environment's overrides.

    Args:
        path: the file; else $PENSTOCK_PARAMS, else ./params.yaml.
        environment: where PENSTOCK__SECTION__KEY overrides are looked up.

    Raises:
        SettingsError: no such file, not YAML, an unknown or missing key, a value of the wrong type.
    """
    source = path or Path(environment.get(PARAMS_FILE, "params.yaml"))
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{source} cannot be read ({error.strerror}); run from the project's folder or set {PARAMS_FILE}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{source} holds {type(tree).__name__}, expected sections of settings")
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX):
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise SettingsError(f"{name}={text!r} cannot be read as a YAML value: {error}") from error
            _set(tree, name.removeprefix(PREFIX).lower().split("__"), value)
    return _validated(tree, str(source))


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise SettingsError(f"{'.'.join(keys)}: {key} is a value, not a section")
        tree = child
    tree[keys[-1]] = value


def _validated(tree: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            found = "" if item["type"] == "missing" else f", found {item['input']!r}"
            lines.append(f"  {key}: {_reason(item['type'], item['msg'])}{found}")
        raise SettingsError(f"{source}: {len(lines)} setting(s) cannot be used\n" + "\n".join(lines)) from error


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such setting; params.yaml lists them all"
    return message
