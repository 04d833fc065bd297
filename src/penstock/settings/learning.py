"""What is learned from, by what model and how, and how it is exported."""

from typing import Literal

from pydantic import Field

from penstock.settings.section import Section


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
