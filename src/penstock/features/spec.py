"""What the features are called and what fixes their meaning; a bundle carries it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from penstock.settings import Settings

CATEGORY_HALF_LIVES_H = (24.0, 384.0)
NOVELTY_HALF_LIVES_H = (24.0, 336.0)
REPEAT_HALF_LIVES_H = (24.0, 168.0, 720.0, 2160.0)
RECENCY_HALF_LIVES_H = (48.0, 720.0)


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that fixes what a feature means; stored in the bundle."""

    half_lives_h: tuple[float, ...]
    cooccurrence_half_life_h: float
    follows_half_life_h: float
    history_length: int
    kinds: tuple[str, ...]
    gains: tuple[float, ...]
    positive_rating_min: float
    repeats: bool

    @classmethod
    def of(cls, settings: Settings) -> "FeatureSpec":
        """The specification that the settings describe."""
        features, data = settings.features, settings.data
        return cls(
            tuple(features.half_lives_h),
            features.cooccurrence_half_life_h,
            features.follows_half_life_h,
            features.history_length,
            tuple(data.gains),
            tuple(data.gains.values()),
            data.positive_rating_min,
            data.repeats,
        )

    @cached_property
    def item_names(self) -> tuple[str, ...]:
        """Features of an item alone, in column order."""
        hours = [f"{hours:g}h" for hours in self.half_lives_h]
        return (
            *(f"popularity_{name}" for name in hours),
            *(f"rate_{name}" for name in hours),
            *(f"category_popularity_{hours:g}h" for hours in CATEGORY_HALF_LIVES_H),
            *(f"novelty_{hours:g}h" for hours in NOVELTY_HALF_LIVES_H),
        )

    @cached_property
    def user_names(self) -> tuple[str, ...]:
        """Features of an item for a user, in column order, behind those of the item."""
        return (
            "cooccurrence_long",
            "cooccurrence_cosine",
            "cooccurrence_given_history",
            "cooccurrence_given_last",
            "follows",
            "follows_cosine",
            "follows_last",
            "repeat_count",
            "repeat_share",
            "repeat_occasions",
            "repeat_age",
            "repeat_last",
            *(f"repeat_recency_{hours:g}h" for hours in RECENCY_HALF_LIVES_H),
            *(f"repeat_sum_{hours:g}h" for hours in REPEAT_HALF_LIVES_H),
            "category_affinity",
            "history_size",
            "history_popularity",
            "since_last_event",
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names, in column order."""
        return self.item_names + self.user_names

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "FeatureSpec":
        """The inverse of `to_json`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()
        }
        return cls(**values)
