"""The online linear ranker: softmax regression over the causal features and a few baselines' scores.

C candidates; F features, those of the signals among them, two columns each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Example:
    """One request to learn from.

    Attributes:
        feature_CF: float16, to keep many in memory.
        newness: from 1 for a stranger down to 0.
        relevant_C: bool.
        offset_C: float32, the correction of the sampled negatives.
    """

    feature_CF: NDArray[np.float16]
    newness: float
    relevant_C: NDArray[np.bool_]
    offset_C: NDArray[np.float32]


class LinearRanker:
    """See the module. `epochs` passes in random order over the warm-up; then one pass over each window.

    The first eighth of the warm-up's windows is left out: they saw almost no counts. A replayed request of the past
    stands beside each new one, so that a window of one kind does not pull the weights away.

    Args:
        signals: baselines that score every item; each is counted up as the windows go.
        repeats: False where what a user had is no candidate, so no negative either.
    """

    name = "online linear ranker"

    def __init__(
        self, state: CausalState, signals: Sequence[Baseline], settings: LinearSettings, repeats: bool, seed: int
    ) -> None:
        self.state, self.signals, self.settings, self.repeats = state, list(signals), settings, repeats
        n_features = len(state.spec.names) + len(signals) * len(SIGNAL_SHAPES)
        self.regression = SoftmaxRegression(2 * n_features, settings.learning_rate, settings.l2)
        self.users: dict[str, int] = {}
        self.sampler = Sampler(settings.negatives, settings.popular_negative_share, seed)
        self.random = np.random.default_rng(seed)
        self.kept: list[list[Example]] = []
        self.warm = False

    def window(self, events: pl.DataFrame, requests: pl.DataFrame, probe: Probe, learns: bool) -> None:
        limit = self.settings.requests_per_window if learns else 0
        taken = set(self.random.permutation(len(requests))[:limit].tolist())
        self.sampler.refresh(self.state, self.state.counted_s)
        examples: list[Example] = []
        for place, asked in enumerate(walk(self.state, events, requests, "window", count=learns)):
            probe(asked)
            if place in taken:
                examples.extend(self._example(asked))
        if not learns:
            return
        for signal in self.signals:
            signal.update(*counted_events(self.state, events, self.users))
        if self.warm:
            old = [one for group in self.kept for one in group]
            for example in examples:
                self._learn(example)
                self._learn(old[self.random.integers(len(old))])
        self.kept.append(examples)

    def warmed(self) -> None:
        """Fit the scale, then learn from what was kept of the warm-up."""
        self.kept = [group for group in self.kept[len(self.kept) // 8 :] if group]
        old = [one for group in self.kept for one in group]
        some = [old[place] for place in self.random.permutation(len(old))[: self.settings.requests_per_window]]
        self.regression.fit_scale(np.concatenate([_doubled(one.feature_CF, one.newness) for one in some]))
        for _ in range(self.settings.epochs):
            for place in self.random.permutation(len(old)):
                self._learn(old[place])
        self.warm = True

    def scores(self, asked: Asked, row_C: NDArray[np.int64]) -> Floats:
        return self.regression.scores(_doubled(self._features(asked, row_C), self._newness(asked)))

    def _learn(self, one: Example) -> None:
        self.regression.learn(_doubled(one.feature_CF, one.newness), one.relevant_C, one.offset_C)

    def _newness(self, asked: Asked) -> float:
        return float(np.exp2(-len(asked.history) / self.settings.new_user_events))

    def _features(self, asked: Asked, row_C: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = [self.state.features(asked.history, row_C, asked.at_s, asked.frozen_NF)]
        user = self.users.setdefault(asked.request["user_id"], len(self.users))
        for signal in self.signals:
            share_C = share_of(signal.scores(user, asked.history.row_L, asked.at_s))[row_C]
            parts.append(np.stack([shaped(share_C, shape) for shape in SIGNAL_SHAPES], axis=1).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def _example(self, asked: Asked) -> list[Example]:
        """One request as an example; none where nothing known followed, or everything shown did."""
        row_of = self.state.row_of
        relevant = {row_of[item] for item in asked.request["relevant"] if item in row_of}
        shown = [row_of[item] for item in asked.request["shown"] if item in row_of]
        if not relevant:
            return []
        if shown:
            row_C, offset_C = np.array(shown, np.int64), np.zeros(len(shown), np.float32)
        else:
            had = set() if self.repeats else set(asked.history.row_L.tolist())
            negative_C, offset_C = self.sampler.draw(had | relevant)
            row_C = np.concatenate([np.array(sorted(relevant), np.int64), negative_C])
            offset_C = np.concatenate([np.zeros(len(relevant), np.float32), offset_C])
        relevant_C = np.isin(row_C, list(relevant))
        if not relevant_C.any() or relevant_C.all():
            return []
        feature_CF = self._features(asked, row_C).astype(np.float16)
        return [Example(feature_CF, self._newness(asked), relevant_C, offset_C)]


def _doubled(feature_CF: NDArray[np.floating], newness: float) -> NDArray[np.float32]:
    """Features, then all of them again weighted by how little is known of the user."""
    plain_CF = feature_CF.astype(np.float32)
    return np.concatenate([plain_CF, np.float32(newness) * plain_CF], axis=1)
