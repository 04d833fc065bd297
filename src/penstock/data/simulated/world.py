"""The hidden truth of the simulated marketplace: what items are like, what people like, and when.

I items (J: some of them), U users, T topics, D latent dimensions, S styles, A anchors in time, B bursts;
times in hours from the start.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from penstock.data.simulated.texts import Text, topics, write_text
from penstock.data.simulated.vocabulary import STYLES
from penstock.settings import SimulateSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DIMENSIONS = 16
CLUSTERS = 6
ANCHOR_H = 12.0
"""An interest moves in a straight line between anchors this far apart."""
CHANGE_OF_MIND = 0.3
"""Chance that a user swaps one favourite topic from an anchor to the next."""
BURSTS_PER_DAY = 8
BURST_HALF_LIFE_H = 3.0
NOVELTY_H = 6.0
UNSTYLED = 0.2


@dataclass(frozen=True)
class Items:
    """`style_I`: index of the style, -1 for none; `quality_I`: added to the log-odds of a click. Sorted by birth."""

    vector_ID: Floats
    topic_I: Ints
    style_I: Ints
    quality_I: Floats
    price_I: Floats
    born_h_I: Floats
    retired_h_I: Floats
    texts: list[Text]


@dataclass(frozen=True)
class Users:
    """`interest_UAD`: where the interest is at each anchor."""

    interest_UAD: Floats
    taste_US: Floats
    joined_h_U: Floats
    activity_U: Floats


@dataclass(frozen=True)
class Bursts:
    """Sudden fame of a whole topic (item -1) or of one item (topic -1)."""

    topic_B: Ints
    item_B: Ints
    start_h_B: Floats
    strength_B: Floats


@dataclass(frozen=True)
class World:
    items: Items
    users: Users
    bursts: Bursts

    def without(self, part: Literal["items", "style"]) -> "World":
        """The same world where items are as good as their text says and no burst happens, or where style is nothing."""
        if part == "style":
            return replace(self, users=replace(self.users, taste_US=np.zeros_like(self.users.taste_US)))
        items = replace(self.items, quality_I=np.zeros_like(self.items.quality_I))
        return replace(self, items=items, bursts=replace(self.bursts, strength_B=np.zeros_like(self.bursts.strength_B)))

    def interest_at(self, user_R: Ints, hour_R: Floats) -> Floats:
        """Latent interest [R, D] of each user at each hour."""
        place_R = hour_R / ANCHOR_H
        before_R = place_R.astype(np.int64)
        share_R1 = (place_R - before_R)[:, None]
        interest = self.users.interest_UAD
        return np.asarray((1 - share_R1) * interest[user_R, before_R] + share_R1 * interest[user_R, before_R + 1])

    def fame_at(self, hour_R: Floats, item_J: Ints) -> Floats:
        """What bursts add to each of the J items [R, J] at each hour."""
        bursts = self.bursts
        since_RB = hour_R[:, None] - bursts.start_h_B
        strength_RB = np.where(since_RB >= 0, bursts.strength_B * np.exp2(-since_RB.clip(0) / BURST_HALF_LIFE_H), 0.0)
        touched_BJ = (bursts.topic_B[:, None] == self.items.topic_I[item_J]) | (bursts.item_B[:, None] == item_J)
        return np.asarray(strength_RB @ touched_BJ.astype(np.float64))

    def on_offer(self, first_h: float, last_h: float) -> Ints:
        """Indices of the items that are on offer at some time from `first_h` to `last_h`."""
        return np.flatnonzero((self.items.born_h_I <= last_h) & (self.items.retired_h_I > first_h))

    def appeal(self, user_R: Ints, hour_R: Floats, item_J: Ints) -> Floats:
        """Log-odds [R, J] that a user who looks at an item clicks it; -inf where it is not on offer."""
        items = self.items
        taste_US1 = np.pad(self.users.taste_US, ((0, 0), (0, 1)))
        appeal_RJ = 4.5 * self.interest_at(user_R, hour_R) @ items.vector_ID[item_J].T
        appeal_RJ += taste_US1[user_R][:, items.style_I[item_J]] + items.quality_I[item_J] - 4.0
        appeal_RJ += self.fame_at(hour_R, item_J)
        age_RJ = hour_R[:, None] - items.born_h_I[item_J]
        appeal_RJ += 0.6 * np.exp(-age_RJ.clip(0) / NOVELTY_H)
        on_offer_RJ = (age_RJ >= 0) & (hour_R[:, None] < items.retired_h_I[item_J])
        return np.asarray(np.where(on_offer_RJ, appeal_RJ, -np.inf))


def make_world(settings: SimulateSettings, rng: np.random.Generator) -> World:
    """Draw a world; the same settings and generator state give the same one."""
    items_rng, users_rng, bursts_rng = rng.spawn(3)
    topic_TD = _topic_vectors(items_rng)
    items = _make_items(settings, topic_TD, items_rng)
    users = _make_users(settings, topic_TD, users_rng)
    return World(items, users, _make_bursts(settings, len(topic_TD), bursts_rng))


def _topic_vectors(rng: np.random.Generator) -> Floats:
    names = [topic.category for topic in topics()]
    category_CD = rng.normal(size=(len(set(names)), DIMENSIONS))
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    centre_TD = category_CD[[place[name] for name in names]]
    return _unit(0.7 * centre_TD + rng.normal(size=centre_TD.shape))


def _make_items(settings: SimulateSettings, topic_TD: Floats, rng: np.random.Generator) -> Items:
    count, life_h, end_h = settings.items, settings.item_life_h, settings.days * 24
    topic_I = rng.permutation(np.arange(count) % len(topic_TD))
    style_I = np.where(rng.random(count) < UNSTYLED, -1, rng.integers(len(STYLES), size=count))
    # Births are evenly spread with jitter, from one lifetime before the start: the shelf is full from the first hour.
    step_h = (life_h + end_h) / count
    born_h_I = -life_h + step_h * (np.arange(count) + rng.random(count))
    life_h_I = life_h * rng.lognormal(-0.08, 0.4, count).clip(0.4, 3)
    names, styles = topics(), list(STYLES)
    texts = [
        write_text(names[topic], styles[style] if style >= 0 else None, rng)
        for topic, style in zip(topic_I, style_I, strict=True)
    ]
    return Items(
        vector_ID=_unit(topic_TD[topic_I] + 0.3 * rng.normal(size=(count, DIMENSIONS)) / np.sqrt(DIMENSIONS) * 2),
        topic_I=topic_I,
        style_I=style_I,
        quality_I=settings.quality_spread * rng.normal(size=count),
        price_I=np.round(rng.lognormal(3.2, 0.8, count), 2),
        born_h_I=born_h_I,
        retired_h_I=born_h_I + life_h_I,
        texts=texts,
    )


def _make_users(settings: SimulateSettings, topic_TD: Floats, rng: np.random.Generator) -> Users:
    count = settings.users
    anchors = int(np.ceil(settings.days * 24 / ANCHOR_H)) + 2
    favoured = [rng.choice(len(topic_TD), size=8, replace=False) for _ in range(CLUSTERS)]
    cluster_U = rng.integers(CLUSTERS, size=count)
    loved_U3 = np.stack([rng.choice(favoured[cluster], size=3, replace=False) for cluster in cluster_U])
    interest_UAD = np.empty((count, anchors, DIMENSIONS))
    for anchor in range(anchors):
        interest_UAD[:, anchor] = _unit(np.tensordot(topic_TD[loved_U3], np.array([1.0, 0.8, 0.5]), axes=(1, 0)))
        changed_U = np.flatnonzero(rng.random(count) < CHANGE_OF_MIND)
        loved_U3[changed_U, rng.integers(3, size=len(changed_U))] = rng.integers(len(topic_TD), size=len(changed_U))
    taste_KS = rng.normal(size=(CLUSTERS, len(STYLES)))
    joined_h_U = rng.uniform(0, settings.days * 24, count) * (rng.random(count) < 0.3)
    joined_h_U[0] = 0.0
    return Users(
        interest_UAD=interest_UAD,
        taste_US=taste_KS[cluster_U] + 0.6 * rng.normal(size=(count, len(STYLES))),
        joined_h_U=joined_h_U,
        activity_U=rng.lognormal(0, 1, count),
    )


def _make_bursts(settings: SimulateSettings, topic_count: int, rng: np.random.Generator) -> Bursts:
    count = max(1, round(BURSTS_PER_DAY * settings.days))
    of_topic_B = rng.random(count) < 0.5
    return Bursts(
        topic_B=np.where(of_topic_B, rng.integers(topic_count, size=count), -1),
        item_B=np.where(of_topic_B, -1, rng.integers(settings.items, size=count)),
        start_h_B=rng.uniform(0, settings.days * 24, count),
        strength_B=rng.uniform(1.0, 2.5, count),
    )


def _unit(vector_ND: Floats) -> Floats:
    return np.asarray(vector_ND / np.linalg.norm(vector_ND, axis=-1, keepdims=True))
