"""What a version must pass, who lets it serve, and where versions are kept."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from penstock.settings.section import Section


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


class ScheduleSettings(Section):
    round_minutes: float = Field(gt=0)
    rebuild_cron: str
    watch_minutes: float = Field(gt=0)
    freshness_objective_minutes: float = Field(gt=0)
