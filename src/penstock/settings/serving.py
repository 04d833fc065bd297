"""The service and its policy."""

from typing import Literal

from pydantic import Field, model_validator

from penstock.settings.section import Section


class ServiceSettings(Section):
    host: str
    port: int = Field(ge=0, le=65535)
    processes: int = Field(ge=1, le=256)
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
