"""What people do in the simulated marketplace: requests, what is shown, clicks, purchases and ratings.

R requests (C: a chunk of them), J items on offer, P positions, F followed impressions; times in hours from the start.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.data.simulated.world import Floats, Ints, World
from penstock.errors import SettingsError
from penstock.settings import SimulateSettings

CHUNK = 1024
"""Requests at a time: bounds memory to CHUNK × items on offer."""
SECOND_H = 1 / 3600


@dataclass(frozen=True)
class Shown:
    """One row per shown item, by request and position. `looked_at`: chance that the position is looked at at all;
    `attraction`: chance of a click once looked at; their product is the true click probability."""

    request: Ints
    user: Ints
    item: Ints
    position: Ints
    at_h: Floats
    attraction: Floats
    looked_at: Floats

    @property
    def probability(self) -> Floats:
        """True click probability of each row."""
        return self.attraction * self.looked_at


@dataclass(frozen=True)
class Followed:
    """Something done after an impression. `row`: into Shown."""

    kind: str
    row: Ints
    at_h: Floats
    value: Floats | None


def show(world: World, settings: SimulateSettings, rng: np.random.Generator) -> Shown:
    """Draw requests over the days and what the shop shows for each.

    The shop prefers, with much noise, what appeals: clicks are biased by position and by its choice.

    Raises:
        SettingsError: nothing is on offer at some request.
    """
    hour_R = _request_hours(settings, rng)
    user_R = _request_users(world, hour_R, rng)
    parts: list[tuple[Ints, Ints, Ints, Floats]] = []
    for start in range(0, len(hour_R), CHUNK):
        user_C, hour_C = user_R[start : start + CHUNK], hour_R[start : start + CHUNK]
        item_J = world.on_offer(hour_C[0], hour_C[-1])
        appeal_CJ = world.appeal(user_C, hour_C, item_J)
        noisy_CJ = 0.4 * appeal_CJ + rng.gumbel(size=appeal_CJ.shape)
        place_CP = np.argsort(-noisy_CJ, axis=1, kind="stable")[:, : settings.shown]
        appeal_CP = np.take_along_axis(appeal_CJ, place_CP, axis=1)
        row, position = np.nonzero(np.isfinite(appeal_CP))
        parts.append((row + start, position, item_J[place_CP[row, position]], _chance(appeal_CP[row, position])))
    request, position, item, attraction = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    empty = np.setdiff1d(np.arange(len(hour_R)), request)
    if len(empty):
        raise SettingsError(
            f"simulate: nothing is on offer {hour_R[empty[0]]:.1f} h after the start, with {settings.items} items over "
            f"{settings.days} days that live {settings.item_life_h} h; raise simulate.items or simulate.item_life_h"
        )
    looked_at = 1 / (1 + 0.15 * position)
    return Shown(request, user_R[request], item, position, hour_R[request], attraction, looked_at)


def attraction(world: World, shown: Shown) -> Floats:
    """What `Shown.attraction` would be in `world`, for each of its rows."""
    parts = []
    for start in range(0, len(shown.item), CHUNK):
        rows = slice(start, start + CHUNK)
        item_J, place = np.unique(shown.item[rows], return_inverse=True)
        appeal_CJ = world.appeal(shown.user[rows], shown.at_h[rows], item_J)
        parts.append(_chance(np.take_along_axis(appeal_CJ, place[:, None], axis=1)[:, 0]))
    return np.concatenate(parts)


def follow(world: World, shown: Shown, rng: np.random.Generator) -> Iterator[Followed]:
    """Draw clicks, then purchases and ratings of what was clicked."""
    click = np.flatnonzero(rng.random(len(shown.item)) < shown.probability)
    delay_h = SECOND_H * (2 + 3 * shown.position[click] + rng.exponential(8, len(click)))
    at_h = shown.at_h[click] + delay_h
    yield Followed("click", click, at_h, None)
    liking = shown.attraction[click]
    bought = rng.random(len(click)) < 0.05 + 0.25 * liking
    purchase_h = at_h[bought] + SECOND_H * (20 + rng.exponential(120, bought.sum()))
    yield Followed("purchase", click[bought], purchase_h, world.items.price_I[shown.item[click[bought]]])
    rated = rng.random(len(click)) < 0.15
    stars = (2.4 + 3 * liking + 0.8 * world.items.quality_I[shown.item[click]] + rng.normal(0, 0.7, len(click)))[rated]
    rating_h = at_h[rated] + SECOND_H * (30 + rng.exponential(900, rated.sum()))
    yield Followed("rating", click[rated], rating_h, np.round(stars).clip(1, 5))


def received_delay_h(at_h: Floats, rng: np.random.Generator) -> Floats:
    """How long each event takes to arrive: seconds, but one in a hundred comes 6 to 90 minutes late."""
    late = rng.random(len(at_h)) < 0.01
    return SECOND_H * rng.exponential(1.5, len(at_h)) + np.where(late, rng.uniform(0.1, 1.5, len(at_h)), 0.0)


def _request_hours(settings: SimulateSettings, rng: np.random.Generator) -> Floats:
    # Evenings are three times as busy as early mornings: inverse of the daily curve's integral.
    count = max(1, round(settings.requests_per_day * settings.days))
    grid_h = np.linspace(0, settings.days * 24, 24 * 60)
    busy = np.cumsum(1 - 0.5 * np.cos((grid_h - 6) / 24 * 2 * np.pi - np.pi / 4))
    busy = (busy - busy[0]) / (busy[-1] - busy[0])
    return np.sort(np.interp(rng.random(count), busy, grid_h))


def _request_users(world: World, hour_R: Floats, rng: np.random.Generator) -> Ints:
    users = world.users
    weight_U = users.activity_U / users.activity_U.sum()
    user_R: npt.NDArray[np.int64] = rng.choice(len(weight_U), size=len(hour_R), p=weight_U)
    founders = np.flatnonzero(users.joined_h_U == 0)
    early_R = users.joined_h_U[user_R] > hour_R
    founder_weight = weight_U[founders] / weight_U[founders].sum()
    user_R[early_R] = rng.choice(founders, size=int(early_R.sum()), p=founder_weight)
    return user_R


def _chance(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-log_odds)))
