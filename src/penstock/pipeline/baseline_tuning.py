"""Settings of the baselines, chosen on the last quarter of the warm-up and on nothing later.

The warm-up is replayed by the backtest's own protocol: its first three quarters warm up, the last one is ranked.
Variants are one baseline at several settings. N items, D width of a text vector.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.evaluation.baselines import (
    Baseline,
    Blend,
    CoOccurrence,
    DecayedPopularity,
    Ease,
    FrozenContent,
    OwnRepeats,
    Weighting,
)
from penstock.evaluation.baselines.search import Recorded, record, search_weighting, variant_ndcg
from penstock.features.examples import Asked
from penstock.metrics import Floats, Ints
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.contenders import Counted, Run, empty_state, replay_stream, warm_up

CHOOSING_SHARE = 0.25
CONTENT_RECENT = 50


@dataclass(frozen=True)
class Variant:
    """One baseline at one setting."""

    setting: dict[str, float]
    make: Callable[[], Baseline]


Variants = dict[str, list[Variant]]


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        best: the best variant of each kind, by the baseline's name.
        facts: settings chosen and their NDCG@10 on the last quarter of the warm-up, as plain JSON values.
        parts, weighting: the blend's; none where no blend was asked for.
    """

    best: dict[str, Variant]
    facts: dict[str, Any]
    parts: list[Variant]
    weighting: Weighting | None


def tune_baselines(backtest: Backtest, variants: Variants, blend: bool) -> Tuned:
    """Choose a variant of each kind and, where `blend`, the weights of a sum over all kinds.

    Raises:
        SettingsError: nothing in the last quarter of the warm-up can be ranked.
    """
    grid = backtest.settings.baselines
    recorded = record_variants(choosing_backtest(backtest, grid.tuning_requests), variants)
    every = [variant for group in variants.values() for variant in group]
    edges = np.cumsum([0, *(len(group) for group in variants.values())]).tolist()
    groups = [range(start, stop) for start, stop in pairwise(edges)]
    alone_V = variant_ndcg(recorded)
    facts: dict[str, Any] = {"requests": len(recorded)}
    best: dict[str, Variant] = {}
    for name, group in zip(variants, groups, strict=True):
        allowed = [place for place in group if _fits(name, every[place], best)]
        first = max(allowed, key=lambda place: float(alone_V[place]))
        best[name] = every[first]
        facts[name] = {**every[first].setting, "ndcg@10": round(float(alone_V[first]), 4)}
    if not blend:
        return Tuned(best, facts, [], None)
    chosen = search_weighting(recorded, groups, grid.trials, backtest.settings.seed)
    parts, weighting = [every[place] for place in chosen.variants], chosen.weighting
    facts[Blend.name] = {"ndcg@10": round(chosen.ndcg, 4)} | {
        name: {**part.setting, "weight": round(weight, 3), "shape": shape}
        for name, part, weight, shape in zip(variants, parts, weighting.weights, weighting.shapes, strict=True)
        if weight
    }
    return Tuned(best, facts, parts, weighting)


def _fits(name: str, variant: Variant, best: dict[str, Variant]) -> bool:
    """Own repeats back off to the decayed popularity that was chosen: alone, they say nothing about its half-life."""
    popular = best.get(DecayedPopularity.name)
    return (
        name != OwnRepeats.name or popular is None or variant.setting["half_life_h"] == popular.setting["half_life_h"]
    )


def choosing_backtest(backtest: Backtest, requests: int) -> Backtest:
    """The warm-up as a backtest of its own, its last quarter scored in windows about as long as the stream's.

    Args:
        requests: about so many are scored at most, evenly over the windows.
    """
    warm, settings = backtest.warm, backtest.settings
    tail = warm[int(len(warm) * (1 - CHOOSING_SHARE)) :]
    spans_s = [(part["at"][-1] - part["at"][0]).total_seconds() for part in (tail, backtest.stream)]
    window_s = max(spans_s[1] / settings.backtest.windows, 1.0)
    windows = int(np.clip(math.ceil(spans_s[0] / window_s), 2, settings.backtest.windows))
    changes = {
        "backtest.warmup": 1 - CHOOSING_SHARE,
        "backtest.windows": windows,
        "backtest.max_requests_per_window": max(1, requests // windows),
    }
    dataset = replace(backtest.dataset, events=warm)
    return Backtest(dataset, settings.override(changes), backtest.cache, lambda what, done, total: None)


def variants_of(backtest: Backtest, kinds: Collection[str], text_ND: NDArray[np.float32] | None) -> Variants:
    """Every variant of some kinds, of those that apply: no repeats where they do not count, no EASE over a catalogue
    too large for it, no frozen content without text vectors.
    """
    grid, n = backtest.settings.baselines, len(backtest.dataset.catalogue)
    variants: Variants = {
        "decayed popularity": [
            Variant({"half_life_h": hours}, partial(DecayedPopularity, n, hours)) for hours in grid.half_lives_h
        ]
    }
    if backtest.dataset.meta.repeats:
        variants["own repeats"] = [
            Variant({"half_life_h": hours, "half_life_events": events}, partial(OwnRepeats, n, hours, events or None))
            for hours in grid.half_lives_h
            for events in grid.repeat_half_lives_events
        ]
    variants["co-occurrence"] = [
        Variant({"half_life_h": hours}, partial(CoOccurrence, n, hours)) for hours in grid.pair_half_lives_h
    ]
    if n <= grid.ease_max_items:
        variants["EASE"] = [Variant({"l2": l2}, partial(Ease, n, l2, grid.ease_max_items)) for l2 in grid.ease_l2]
    if text_ND is not None:
        variants["frozen content"] = [
            Variant({"half_life_events": events}, partial(FrozenContent, text_ND, CONTENT_RECENT, events))
            for events in grid.content_half_lives_events
        ]
    return {name: group for name, group in variants.items() if name in kinds}


class Several:
    """Baselines counted side by side; `scores` of the first, `all_scores` of each."""

    name = "choosing settings"

    def __init__(self, parts: list[Baseline]) -> None:
        self.parts = parts

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        for part in self.parts:
            part.update(user_E, item_E, at_s_E)

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        return self.parts[0].scores(user, history_L, at_s)

    def all_scores(self, user: int, history_L: Ints, at_s: float) -> list[Floats]:
        """Scores [N] of each part."""
        return [part.scores(user, history_L, at_s) for part in self.parts]


def record_variants(choosing: Backtest, variants: Variants) -> list[Recorded]:
    """One replay of a choosing backtest with every variant side by side: what each said about the same requests."""
    several = Several([variant.make() for group in variants.values() for variant in group])
    state = empty_state(choosing.dataset, choosing.settings)
    contender = Counted(several, state)
    recorded: list[Recorded] = []

    def ask(number: int, asked: Asked, row_C: NDArray[np.int64]) -> None:
        del number
        user = contender.users.setdefault(asked.request["user_id"], len(contender.users))
        score_VN = several.all_scores(user, asked.history.row_L, asked.at_s)
        rows = {state.row_of[item] for item in asked.request["relevant"] if item in state.row_of}
        recorded.append(record(score_VN, row_C, rows, len(asked.request["relevant"])))

    warm_up(choosing, contender)
    replay_stream(choosing, contender, ask, Run())
    return recorded
