"""State, sources and what is asked of data."""

from pathlib import Path

from pydantic import Field

from penstock.settings.section import Section


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
