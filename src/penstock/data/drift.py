"""What people act on in a window, against the recent past: category mix, length of texts, place in the item space.

A window is remembered by its acts for each item, nothing else, so that every window is compared under today's catalogue
and today's item vectors. Ranges are learned: each recent window's distance to the others gives a median and a spread
(1.4826 times the median absolute deviation, which a single odd window does not move); a new window may lie
`validation.drift_z` spreads above the median. Where the recent windows hardly differ, the spread is what chance alone
does to so few acts: for shares p of n acts, half the sum of sqrt(2 p (1 - p) / (pi n)); for means, deviation over
root n.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import sqlalchemy as sa
from numpy.typing import NDArray

from penstock.data.state import METADATA, State
from penstock.data.window_rules import WindowRule
from penstock.records import SnapshotManifest
from penstock.settings import ValidationSettings

KEPT_ITEMS = 2_000
MAD_TO_DEVIATION = 1.4826
Floats = NDArray[np.float64]
Acts = dict[str, int]
"""Acts by item of one window, its most acted-on items."""

profiles = sa.Table(
    "profiles",
    METADATA,
    sa.Column("snapshot_id", sa.Text, primary_key=True),
    sa.Column("acts", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class ItemSpace:
    """What is known of the items. `vector_NE`: the champion's, in the order of `ids`; None: not compared."""

    ids: Sequence[str]
    category_N: Sequence[str]
    chars_N: Floats
    vector_NE: NDArray[np.float32] | None


@dataclass(frozen=True)
class Measure:
    """One way to look at a window. `value_ND`: what each item contributes; a window's place is its mean over acts."""

    name: str
    value_ND: Floats
    distance: Callable[[Floats, Floats], float]
    chance: Callable[[Floats, Floats, float], float]
    explained: str


def acts_of(events: pl.DataFrame, gains: Mapping[str, float]) -> Acts:
    """Acts by item, of the KEPT_ITEMS most acted-on items."""
    kinds = [kind for kind, gain in gains.items() if gain > 0]
    counts = events.filter(pl.col("kind").is_in(kinds))["item_id"].drop_nulls().value_counts().sort("count", "item_id")
    return {item: int(count) for item, count in counts.tail(KEPT_ITEMS).iter_rows()}


def remember(state: State, snapshot_id: str, acts: Acts) -> None:
    """Keep a window's acts for later comparison; again for the same snapshot replaces them."""
    with state.write() as conn:
        conn.execute(sa.delete(profiles).where(profiles.c.snapshot_id == snapshot_id))
        conn.execute(sa.insert(profiles).values(snapshot_id=snapshot_id, acts=json.dumps(acts)))


def recalled(state: State, recent: Sequence[SnapshotManifest]) -> list[Acts]:
    """What is remembered of these snapshots, in their order; those that are not are left out."""
    wanted = [manifest.snapshot_id for manifest in recent]
    with state.read() as conn:
        rows = conn.execute(sa.select(profiles).where(profiles.c.snapshot_id.in_(wanted)))
        texts = {row.snapshot_id: row.acts for row in rows}
    return [json.loads(texts[name]) for name in wanted if name in texts]


def drift_rules(
    acts: Acts, recent: Sequence[Acts], space: ItemSpace, settings: ValidationSettings
) -> tuple[list[WindowRule], list[str]]:
    """The bounds that can be judged, and a note where they cannot."""
    row_of = {item: row for row, item in enumerate(space.ids)}
    past = [one for one in (_counts(window, row_of) for window in recent) if one.sum() > 0]
    count_N = _counts(acts, row_of)
    if len(past) < settings.drift_min_history or not count_N.sum():
        return [], [
            f"drift not judged: {len(past)} recent snapshots with acts, at least {settings.drift_min_history} are "
            f"needed (validation.drift_min_history); {int(count_N.sum())} acts in this one"
        ]
    return [_rule(measure, count_N, past, settings.drift_z) for measure in _measures(space)], []


def _measures(space: ItemSpace) -> list[Measure]:
    names, place_N = np.unique(np.array(space.category_N), return_inverse=True)
    one_hot_NK = np.eye(len(names))[place_N]
    found = [
        Measure("category mix", one_hot_NK, _half_l1, _share_chance, "distance of the categories' shares, 0 to 1"),
        Measure("text length", space.chars_N[:, None], _l2, _mean_chance, "difference of the mean length, characters"),
    ]
    if space.vector_NE is not None:
        found.append(
            Measure(
                "embedding drift",
                space.vector_NE.astype(np.float64),
                _l2,
                _mean_chance,
                "distance of the mean item vector",
            )
        )
    return found


def _rule(measure: Measure, count_N: Floats, past: list[Floats], z: float) -> WindowRule:
    total_N = np.sum(past, axis=0)
    observed = measure.distance(_mean(count_N, measure), _mean(total_N, measure))
    usual = [
        measure.distance(_mean(one, measure), _mean(total_N - one, measure))
        for one in past
        if (total_N - one).sum() > 0
    ]
    median = float(np.median(usual))
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(np.array(usual) - median)))
    limit = median + z * max(deviation, measure.chance(measure.value_ND, total_N, float(count_N.sum())))
    column = measure.name.replace(" ", "_")
    return WindowRule(
        measure.name,
        "ExpectColumnMaxToBeBetween",
        {"column": column, "max_value": limit},
        observed,
        -math.inf,
        limit,
        f"{measure.explained}; {median:.4g} is usual in {len(past)} recent snapshots, validation.drift_z is {z:g}",
        column,
    )


def _counts(acts: Acts, row_of: Mapping[str, int]) -> Floats:
    count_N = np.zeros(len(row_of))
    for item, count in acts.items():
        if item in row_of:
            count_N[row_of[item]] += count
    return count_N


def _mean(count_N: Floats, measure: Measure) -> Floats:
    return np.asarray(count_N @ measure.value_ND / count_N.sum())


def _half_l1(a_D: Floats, b_D: Floats) -> float:
    return float(np.abs(a_D - b_D).sum() / 2)


def _l2(a_D: Floats, b_D: Floats) -> float:
    return float(np.linalg.norm(a_D - b_D))


def _share_chance(value_ND: Floats, count_N: Floats, acts: float) -> float:
    share_D = count_N @ value_ND / count_N.sum()
    return float(np.sqrt(2 * share_D * (1 - share_D) / (math.pi * acts)).sum() / 2)


def _mean_chance(value_ND: Floats, count_N: Floats, acts: float) -> float:
    weight_N = count_N / count_N.sum()
    variance_D = weight_N @ value_ND**2 - (weight_N @ value_ND) ** 2
    return float(np.sqrt(variance_D.clip(0).sum() / acts))
