"""The online linear ranker: softmax regression over the causal features and a few baselines' scores.

C candidates; F features; S signals, two columns each.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.evaluation.baselines import Baseline, SoftmaxRegression
from penstock.evaluation.baselines.blend import shaped, share_of
from penstock.features.examples import Asked, Sampler, walk
from penstock.features.state import CausalState
from penstock.metrics import Floats
from penstock.pipeline.contenders import Probe, counted_events
from penstock.settings import LinearSettings

SIGNAL_SHAPES = ("share", "log 1e-2")

Example = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]


class LinearRanker:
    """See the module. Warm-up: `epochs` passes in random order over its later part; then one pass a window, in order.

    The first eighth of the warm-up is left out: it saw almost no counts. Replayed requests of the past stand beside
    the new ones, so that a window of one kind does not pull the weights away.

    Args:
        signals: baselines that score every item; each is counted up as the windows go.
    """

    name = "online linear ranker"

    def __init__(self, state: CausalState, signals: Sequence[Baseline], settings: LinearSettings, seed: int) -> None:
        self.state, self.signals, self.settings = state, list(signals), settings
        names = [*state.spec.names, *(f"{one.name} {shape}" for one in signals for shape in SIGNAL_SHAPES)]
        self.regression = SoftmaxRegression(2 * len(names), settings.learning_rate, settings.l2)
        self.users: dict[str, int] = {}
        self.sampler = Sampler(settings.negatives, settings.popular_negative_share, seed)
        self.random = np.random.default_rng(seed)
        self.kept: list[Example] = []
        self.warm = False

    def window(self, events: pl.DataFrame, requests: pl.DataFrame, probe: Probe, learns: bool) -> None:
        examples: list[Example] = []
        self.sampler.refresh(self.state, self.state.counted_s)
        for asked in walk(self.state, events, requests, "window", count=learns):
            probe(asked)
            if learns:
                examples.extend(self._example(asked))
        if not learns:
            return
        for signal in self.signals:
            signal.update(*counted_events(self.state, events, self.users))
        if self.warm:
            replayed = [self.kept[n] for n in self.random.integers(len(self.kept), size=len(examples))]
            for example in (one for pair in zip(examples, replayed, strict=True) for one in pair):
                self.regression.learn(*example)
        self.kept.extend(examples)

    def warmed(self) -> None:
        """Fit the scale, then learn from what was kept of the warm-up."""
        self.kept = self.kept[len(self.kept) // 8 :]
        self.regression.fit_scale(np.concatenate([feature_CF for feature_CF, _, _ in self.kept]))
        for _ in range(self.settings.epochs):
            for place in self.random.permutation(len(self.kept)):
                self.regression.learn(*self.kept[place])
        self.warm = True

    def scores(self, asked: Asked, row_C: NDArray[np.int64]) -> Floats:
        return self.regression.scores(self._features(asked, row_C))

    def _features(self, asked: Asked, row_C: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features and signals, then all of them again weighted by how little is known of the user."""
        parts = [self.state.features(asked.history, row_C, asked.at_s, asked.frozen_NF)]
        user = self.users.setdefault(asked.request["user_id"], len(self.users))
        for signal in self.signals:
            share_C = share_of(signal.scores(user, asked.history.row_L, asked.at_s))[row_C]
            parts.append(np.stack([shaped(share_C, shape) for shape in SIGNAL_SHAPES], axis=1).astype(np.float32))
        feature_CF = np.concatenate(parts, axis=1)
        newness = np.float32(np.exp2(-len(asked.history) / self.settings.new_user_events))
        return np.concatenate([feature_CF, newness * feature_CF], axis=1)

    def _example(self, asked: Asked) -> list[Example]:
        """One request as an example; none where nothing known followed."""
        row_of = self.state.row_of
        relevant = {row_of[item] for item in asked.request["relevant"] if item in row_of}
        shown = [row_of[item] for item in asked.request["shown"] if item in row_of]
        if not relevant:
            return []
        if shown:
            row_C, offset_C = np.array(shown, np.int64), np.zeros(len(shown), np.float32)
        else:
            negative_C, offset_C = self.sampler.draw(relevant)
            row_C = np.concatenate([np.array(sorted(relevant), np.int64), negative_C])
            offset_C = np.concatenate([np.zeros(len(relevant), np.float32), offset_C])
        relevant_C = np.isin(row_C, list(relevant))
        return [(self._features(asked, row_C), relevant_C, offset_C)] if relevant_C.any() else []
