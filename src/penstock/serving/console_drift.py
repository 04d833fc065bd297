"""What people act on, snapshot by snapshot: the categories' shares, and how far these lie from the snapshots before.

The same distance and the same limit as validation's rule on the category mix (data.drift), by the categories of the
catalogue that serves now. Kept until a snapshot is added or another version serves: the page asks every few seconds.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pydantic import BaseModel

from penstock.data.drift import ItemSpace, drift_rules, profiles
from penstock.data.state import State
from penstock.settings import ValidationSettings

SHOWN = 5
OTHERS = "all others"


class CategoryMix(BaseModel):
    """One value for each snapshot asked for, None where nothing is remembered of it.

    `shares`: of the acts, by category, the largest categories first; `distance`: half the sum of the shares'
    differences from the snapshots before, 0 to 1; `limit`: beyond it the newest would be refused, None with too few
    snapshots before it.
    """

    shares: dict[str, list[float | None]]
    distance: list[float | None]
    limit: float | None


class MixKept:
    """The last mix that was worked out. Any thread: two at once only work twice."""

    def __init__(self) -> None:
        self._kept: tuple[Any, CategoryMix] | None = None

    def of(self, state: State, ids: Sequence[str], served: Any, settings: ValidationSettings) -> CategoryMix | None:
        """The mix of these snapshots, oldest first, by the catalogue of `served`; None where it ranks no items."""
        if served is None or served.scorer.task != "rank":
            return None
        key, kept = (tuple(ids), served.digest), self._kept
        if kept is None or kept[0] != key:
            items = served.scorer.items
            names = dict(zip(items["item_id"].to_list(), items["category"].fill_null("").to_list(), strict=True))
            kept = (key, category_mix(state, ids, names, settings))
            self._kept = kept
        return kept[1]


def category_mix(
    state: State, ids: Sequence[str], category_of: Mapping[str, str], settings: ValidationSettings
) -> CategoryMix:
    """Shares, distances and the newest snapshot's limit; see CategoryMix.

    Args:
        ids: snapshots, oldest first.
        category_of: the category of an item; acts on other items do not count.
    """
    with state.read() as conn:
        rows = conn.execute(sa.select(profiles).where(profiles.c.snapshot_id.in_(ids))).all()
    acts = {row.snapshot_id: _by_category(json.loads(row.acts), category_of) for row in rows}
    known = [name for name in ids if acts.get(name)]
    total = sum((acts[name] for name in known), Counter[str]())
    names = [name for name, _ in total.most_common()]
    share_SK = np.array([[acts[one][name] for name in names] for one in known], float).reshape(len(known), len(names))
    distance = _distances(share_SK, settings.history_snapshots)
    share_SK /= np.maximum(share_SK.sum(1, keepdims=True), 1)
    shares = {name or "without category": share_SK[:, place] for place, name in enumerate(names[:SHOWN])}
    if len(names) > SHOWN:
        shares[OTHERS] = share_SK[:, SHOWN:].sum(1)
    return CategoryMix(
        shares={name: _placed(ids, known, share_S.tolist()) for name, share_S in shares.items()},
        distance=_placed(ids, known, distance),
        limit=_limit([acts[name] for name in known], names, settings),
    )


def _by_category(acts: Mapping[str, int], category_of: Mapping[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for item, count in acts.items():
        if item in category_of:
            found[category_of[item]] += count
    return found


def _distances(count_SK: NDArray[np.float64], reach: int) -> list[float | None]:
    """Each snapshot's distance from the `reach` before it; None for the first."""
    found: list[float | None] = []
    for place, own_K in enumerate(count_SK):
        before_K = count_SK[max(0, place - reach) : place].sum(0)
        found.append(float(np.abs(own_K / own_K.sum() - before_K / before_K.sum()).sum() / 2) if place else None)
    return found


def _limit(acts: Sequence[Counter[str]], names: Sequence[str], settings: ValidationSettings) -> float | None:
    """The rule of data.drift, with the categories themselves as items: shares are all that it looks at."""
    if not acts:
        return None
    space = ItemSpace(names, names, np.zeros(len(names)), None)
    rules, _ = drift_rules(acts[-1], acts[-1 - settings.history_snapshots : -1], space, settings)
    return next((rule.high for rule in rules if rule.name == "category mix"), None)


def _placed(ids: Sequence[str], known: Sequence[str], values: Sequence[float | None]) -> list[float | None]:
    found = dict(zip(known, values, strict=True))
    return [found.get(name) for name in ids]
