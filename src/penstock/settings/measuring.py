"""Backtests, baselines and the simulated marketplace."""

from pydantic import Field

from penstock.settings.section import Section


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
    quality_spread: float = Field(ge=0)
    item_life_h: float = Field(gt=0)
