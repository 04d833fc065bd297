"""Typed settings: params.yaml holds every value, the environment may override any.

Nothing here has a default: a value lives in params.yaml and nowhere else. An override is
PENSTOCK__SECTION__KEY=value, read as YAML, so lists and numbers keep their types.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penstock.errors import SettingsError
from penstock.records import Task

PREFIX = "PENSTOCK__"
PARAMS_FILE = "PENSTOCK_PARAMS"


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StateSettings(Section):
    home: Path
    url: str
    lease_s: float = Field(gt=0)


class DataSettings(Section):
    dir: Path
    allowed_lateness_minutes: float = Field(ge=0)
    label_wait_minutes: float = Field(ge=0)
    clock_skew_minutes: float = Field(ge=0)
    max_lateness_days: float = Field(gt=0)
    positive_rating_min: float
    repeats: bool
    hash_users: bool
    user_key_file: Path
    max_text_chars: int = Field(gt=0)
    pack_rows: int = Field(ge=1)
    loose_snapshots: int = Field(ge=0)
    gains: dict[str, float]


class SourceSettings(Section):
    group: str = Field(min_length=1)
    batch_rows: int = Field(ge=1)
    wait_s: float = Field(gt=0)
    claim_idle_s: float = Field(gt=0)


class ValidationSettings(Section):
    min_rows: int = Field(ge=1)
    max_bad_row_share: float = Field(ge=0, le=1)
    max_abs_value: float = Field(gt=0)
    rating_min: float
    rating_max: float
    volume_factor: float = Field(gt=1)
    click_rate_factor: float = Field(gt=1)
    history_snapshots: int = Field(ge=1)
    min_history: int = Field(ge=1)
    drift_min_history: int = Field(ge=3)
    drift_z: float = Field(gt=0)


class SuspectSettings(Section):
    max_requests_per_minute: int = Field(ge=1)
    regular_min_requests: int = Field(ge=3)
    min_gap_spread: float = Field(ge=0)
    max_user_gain_per_h: float = Field(gt=0)
    farm_min_acts: int = Field(ge=0)
    farm_factor: float = Field(ge=0)
    shown_share: float = Field(gt=0, le=1)
    answered_share: float = Field(gt=0, le=1)
    max_share: float = Field(ge=0, le=1)


class FeatureSettings(Section):
    half_lives_h: list[float] = Field(min_length=1)
    cooccurrence_half_life_h: float = Field(gt=0)
    follows_half_life_h: float = Field(gt=0)
    history_length: int = Field(ge=1)
    refresh: Literal["event", "window"]


class TextSettings(Section):
    encoder: str
    max_tokens: int = Field(ge=4, le=512)
    tuning: Literal["frozen", "top_layers", "lora", "bottleneck", "side_adapter", "full"]
    tuned_layers: int = Field(ge=1)
    lora_rank: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    adapter_rank: int = Field(ge=1)
    cache_mb: int = Field(ge=0)


class ModelSettings(Section):
    width: int = Field(ge=4)
    attention_width: int = Field(ge=2)
    cross_layers: int = Field(ge=0)
    hidden: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class ClassifierSettings(Section):
    memory_texts: int = Field(ge=1)
    penalty: float = Field(gt=0)
    iterations: int = Field(ge=1)
    texts_visited: int = Field(ge=0)
    shrinkage: float = Field(gt=0)
    discriminant_share: float = Field(ge=0)
    name_weight: float = Field(ge=0)


class TrainingSettings(Section):
    optimizer: Literal["adamw", "adagrad", "ogd"]
    learning_rate: float = Field(gt=0)
    text_learning_rate: float = Field(ge=0)
    residual_learning_rate: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    batch_requests: int = Field(ge=1)
    epochs: int = Field(ge=1)
    warmup_epochs: int = Field(ge=1)
    negatives: int = Field(ge=1)
    popular_negative_share: float = Field(ge=0, le=1)
    replay_share: float = Field(ge=0)
    replay_capacity: int = Field(ge=0)
    text_steps_per_round: int = Field(ge=0)
    text_items_per_step: int = Field(ge=1)
    text_refresh_items: int = Field(ge=0)
    max_gradient_norm: float = Field(gt=0)
    averaging: float = Field(ge=0, lt=1)
    proximal: float = Field(ge=0)
    rate_adaptation: float = Field(ge=0)
    rate_bound: float = Field(gt=1)
    spike_factor: float = Field(gt=1)
    holdout_share: float = Field(gt=0, lt=1)


class ExportSettings(Section):
    opset: int = Field(ge=18)
    text_precision: Literal["float32", "int8"]
    min_text_cosine: float = Field(gt=0, le=1)
    max_parity_error: float = Field(gt=0)


class GateSettings(Section):
    min_requests: int = Field(ge=1)
    bootstrap_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    ndcg_margin: float = Field(ge=0)
    auc_margin: float = Field(ge=0)
    log_loss_margin: float = Field(ge=0)
    required_gain: float | None = Field(ge=0)
    false_promotions_per_month: float = Field(gt=0, le=1)
    first_round_share: float = Field(gt=0, lt=1)
    slice_margin: float = Field(ge=0)
    slice_min_requests: int = Field(ge=2)
    slice_min_users: int = Field(ge=2)
    too_few: Literal["state", "refuse"]
    new_user_events: int = Field(ge=0)
    heavy_user_share: float = Field(gt=0, lt=1)
    new_item_h: float = Field(gt=0)
    max_calibration_loss: float = Field(gt=0)
    list_requests: int = Field(ge=1)
    min_coverage_ratio: float = Field(ge=0)
    min_diversity_ratio: float = Field(ge=0)
    anchor_ages_rounds: list[int] = Field(min_length=1)
    anchor_requests: int = Field(ge=2)
    anchor_min_requests: int = Field(ge=2)
    forgetting_margin: float = Field(ge=0)
    max_parity_error: float = Field(gt=0)
    max_latency_ms: float = Field(gt=0)
    max_size_mb: float = Field(gt=0)
    infra_timeout_s: float = Field(gt=0)


class PromotionSettings(Section):
    policy: Literal["manual", "automatic"]
    approval_expires_h: float = Field(gt=0)
    watch_minutes: float = Field(ge=0)
    watch_expected_h: float = Field(gt=0)
    watch_click_wait_s: float = Field(gt=0)
    watch_min_answers: int = Field(ge=1)
    watch_click_rate_drop: float = Field(ge=0, lt=1)
    watch_error_rate_rise: float = Field(ge=0, lt=1)
    watch_confidence: float = Field(gt=0.5, lt=1)


class RegistrySettings(Section):
    name: str
    tracking_uri: str
    artifacts: Path
    environment: str
    keep_served: int = Field(ge=1)
    keep_unserved: int = Field(ge=1)


class ServiceSettings(Section):
    host: str
    port: int = Field(ge=0, le=65535)
    poll_s: float = Field(gt=0)
    candidates: int = Field(ge=1)
    max_body_bytes: int = Field(ge=1000)
    body_timeout_s: float = Field(gt=0)
    keep_alive_s: int = Field(ge=1)
    max_json_depth: int = Field(ge=4)
    rate_per_s: float = Field(gt=0)
    rate_burst: int = Field(ge=1)
    max_concurrent: int = Field(ge=1)
    max_k: int = Field(ge=1)
    max_batch: int = Field(ge=1)
    answers_kept_h: float = Field(ge=0)
    answers_max_rows: int = Field(ge=1)
    answers_flush_s: float = Field(gt=0)


class RolloutSettings(Section):
    share: float = Field(gt=0, le=1)
    click_window_s: float = Field(gt=0)
    min_requests: int = Field(ge=1)
    max_error_rise: float = Field(ge=0)
    check_s: float = Field(ge=0)
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    min_effective_sample: float = Field(ge=1)
    max_weight_bias: float = Field(gt=0)


class PolicySettings(Section):
    rules: str
    diversity: float = Field(ge=0, lt=1)
    exploration: Literal["none", "epsilon", "thompson"]
    epsilon: float = Field(gt=0, lt=1)
    thompson_scale: float = Field(gt=0)
    explored_per_place: int = Field(ge=2)

    @model_validator(mode="after")
    def _known_propensities(self) -> "PolicySettings":
        if self.exploration == "thompson" and self.diversity > 0:
            raise ValueError("thompson with diversity above 0 has propensities that nobody knows; set one of them off")
        return self


class ScheduleSettings(Section):
    round_minutes: float = Field(gt=0)
    rebuild_cron: str
    watch_minutes: float = Field(gt=0)
    freshness_objective_minutes: float = Field(gt=0)


class BacktestSettings(Section):
    windows: int = Field(ge=1)
    warmup: float = Field(gt=0, lt=1)
    max_requests_per_window: int = Field(ge=1)
    window_texts: int = Field(ge=1)
    cadences: list[str] = Field(min_length=1)


class LinearSettings(Section):
    signals: list[str]
    negatives: int = Field(ge=1)
    popular_negative_share: float = Field(ge=0, le=1)
    requests_per_window: int = Field(ge=1)
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    l2: float = Field(ge=0)
    new_user_events: float = Field(gt=0)


class SasrecSettings(Section):
    width: int = Field(ge=4)
    blocks: int = Field(ge=1)
    heads: int = Field(ge=1)
    length: int = Field(ge=2)
    dropout: float = Field(ge=0, lt=1)
    batch_sequences: int = Field(ge=1)
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    online_learning_rate: float = Field(gt=0)
    online_epochs: int = Field(ge=1)
    replay_share: float = Field(ge=0)
    softmax_items: int = Field(ge=1)


class BaselineSettings(Section):
    tuning_requests: int = Field(ge=1)
    trials: int = Field(ge=1)
    half_lives_h: list[float] = Field(min_length=1)
    repeat_half_lives_events: list[float] = Field(min_length=1)
    pair_half_lives_h: list[float] = Field(min_length=1)
    content_half_lives_events: list[float] = Field(min_length=1)
    ease_l2: list[float] = Field(min_length=1)
    ease_max_items: int = Field(ge=1)
    newcomer_events: int = Field(ge=1)
    linear: LinearSettings
    sasrec: SasrecSettings


class SimulateSettings(Section):
    items: int = Field(ge=10)
    users: int = Field(ge=2)
    days: float = Field(gt=0)
    requests_per_day: int = Field(ge=1)
    shown: int = Field(ge=2)
    item_life_h: float = Field(gt=0)


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
