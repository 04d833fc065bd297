"""`penstock backtest`: any log replayed through the same learning and scoring, one track per cadence.

For each window the track's model ranks the window's requests first and learns from them after; `never` keeps the
model of the warm-up. Users' histories are live on every track, so that freshness of the model is all that differs.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.dataset import Dataset
from penstock.data.requests import group_requests
from penstock.evaluation.prequential import (
    RankedRequests,
    Ranker,
    Window,
    cadence_seconds,
    equal_windows,
    sample_requests,
    split_stream,
)
from penstock.export.rank import item_vectors, rank_graphs
from penstock.features.examples import Asked, Sampler, build_examples, walk
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.engine import RankEngine
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.learner import Learner

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Truth:
    """A scored request: its number, protocol window, user, time, and every item that it led to."""

    number: int
    window: int
    user: str
    at: datetime
    relevant: list[str]


@dataclass
class Track:
    """One cadence: its own state and learner, and what they ranked."""

    name: str
    state: CausalState
    learner: Learner
    engine: RankEngine
    every_s: float | None
    ranked: RankedRequests = field(default_factory=RankedRequests)
    learn_s: float = 0.0
    score_s: float = 0.0


def positives(dataset: Dataset, settings: Settings) -> pl.DataFrame:
    """The events the protocol counts: those worth something, and impressions."""
    gains = settings.data.gains
    worth = [kind for kind, gain in gains.items() if gain > 0 or kind in ("impression", "history")]
    low = (pl.col("kind") == "rating") & (pl.col("value").fill_null(0) < settings.data.positive_rating_min)
    return dataset.events.filter(pl.col("kind").is_in(worth) & ~low).sort("at", maintain_order=True)


def make_track(name: str, dataset: Dataset, settings: Settings) -> tuple[CausalState, Learner]:
    """An empty state and a learner over the whole catalogue's texts."""
    spec = FeatureSpec.of(settings)
    state = CausalState(spec)
    state.add_items(dataset.catalogue)
    learner = Learner(settings, spec)
    learner.add_texts(item_texts(dataset.catalogue))
    return state, learner


def engine_of(learner: Learner, settings: Settings, cache: Path) -> RankEngine:
    """The learner's model as exported graphs."""
    model = learner.task.model
    width = learner.encoder.width
    graphs = rank_graphs(model, settings, learner.spec, width, cache)
    return RankEngine(graphs["user.onnx"], graphs["rank.onnx"], item_vectors(model, learner.text_NT), width)


def sampler_of(settings: Settings, index: int) -> Sampler:
    """Negatives of one window, seeded by the window."""
    training = settings.training
    return Sampler(training.negatives, training.popular_negative_share, settings.seed * 7919 + index)


class Protocol:
    """Who is a candidate: items with an event before the window, less what the user had where repeats do not count."""

    def __init__(self, state: CausalState, repeats: bool) -> None:
        self.state, self.repeats = state, repeats
        self.seen_N = np.zeros(len(state.items), bool)
        self._rows = np.zeros(0, np.int64)

    def advance(self, events: pl.DataFrame) -> None:
        """Count a window's items as seen."""
        rows = [self.state.row_of[item] for item in events["item_id"].unique().to_list() if item in self.state.row_of]
        self.seen_N[rows] = True
        self._rows = np.flatnonzero(self.seen_N)

    def candidates(self, asked: Asked) -> NDArray[np.int64]:
        """Rows to rank."""
        if self.repeats or not len(asked.history):
            return self._rows
        return self._rows[~np.isin(self._rows, asked.history.row_L)]


class Backtest:
    """Warm up once, then stream; see the module. Everything is kept in memory; `summary` at the end."""

    def __init__(self, dataset: Dataset, settings: Settings, cache: Path, progress: Progress) -> None:
        self.dataset = dataset
        self.settings = settings.override({"features.refresh": "window"})
        self.cache, self.progress = cache, progress
        events = positives(dataset, self.settings)
        self.warm, self.stream = split_stream(events, self.settings.backtest.warmup)
        self.truth = self._truth()

    def grouped(self, events: pl.DataFrame) -> pl.DataFrame:
        """Requests of some events."""
        return group_requests(events, self.settings.data.gains, self.settings.data.positive_rating_min)

    def _truth(self) -> dict[str, Truth]:
        """The requests that are scored: a seeded sample of each protocol window, the same for every cadence."""
        requests = self.grouped(self.stream)
        backtest = self.settings.backtest
        truth: dict[str, Truth] = {}
        at_s_R = requests["at"].dt.timestamp("us").to_numpy() / 1e6
        for window in equal_windows(self.stream, backtest.windows):
            last = window.index == backtest.windows - 1
            inside = (at_s_R >= window.start_s) & ((at_s_R <= window.end_s) if last else (at_s_R < window.end_s))
            part = requests.filter(pl.Series(inside))
            sample = sample_requests(part, backtest.max_requests_per_window, self.settings.seed + window.index)
            for row in sample.iter_rows(named=True):
                truth[row["request_id"]] = Truth(len(truth), window.index, row["user_id"], row["at"], row["relevant"])
        return truth

    def scored(self, asked: Asked) -> tuple[int, Asked] | None:
        """The number of a request and what it truly led to; None when it is not among the scored ones."""
        found = self.truth.get(asked.request["request_id"])
        if found is None or found.at != asked.request["at"]:
            return None
        return found.number, replace(asked, request={**asked.request, "relevant": found.relevant})

    def warm_up(self) -> tuple[CausalState, Learner]:
        """Walk the first part of the log in slices, then learn from it."""
        state, learner = make_track("warm-up", self.dataset, self.settings)
        parts = []
        slices = equal_windows(self.warm, self.settings.backtest.windows)
        for window in slices:
            self.progress("warm-up", window.index, len(slices))
            if len(window.events):
                requests = self.grouped(window.events)
                sampler = sampler_of(self.settings, window.index)
                parts.append(build_examples(state, window.events, requests, "window", sampler))
        # The first slices saw almost no counts; what they teach is not what the model will meet.
        parts = [part for part in parts[len(parts) // 8 :] if len(part)]
        learner.learn(parts[0].join(parts))
        return state, learner

    def windows(self, every_s: float | None) -> list[Window]:
        """The stream's windows: the protocol's, or one per update of the cadence."""
        if every_s is None:
            return equal_windows(self.stream, self.settings.backtest.windows)
        return equal_windows(self.stream, length_s=every_s)

    def run_track(self, track: Track, learns: bool) -> Iterator[Window]:
        """Score, then learn, window by window; yields each window once it is done."""
        protocol = Protocol(track.state, self.dataset.meta.repeats)
        protocol.advance(self.warm)
        windows = self.windows(track.every_s)
        for window in windows:
            if len(window.events):
                self._window(track, window, protocol, learns)
                protocol.advance(window.events)
            self.progress(track.name, window.index + 1, len(windows))
            yield window

    def _window(self, track: Track, window: Window, protocol: Protocol, learns: bool) -> None:
        settings = self.settings
        requests = self.grouped(window.events)
        ranker = Ranker(track.state, track.engine, track.ranked, protocol.candidates)
        started = time.perf_counter()

        def probe(asked: Asked) -> None:
            found = self.scored(asked)
            if found is not None:
                ranker.ask(*found)

        if learns:
            sampler = sampler_of(settings, 1000 + window.index)
            examples = build_examples(track.state, window.events, requests, "window", sampler, probe)
        else:
            for asked in walk(track.state, window.events, requests, "window", count=False):
                probe(asked)
        ranker.finish()
        track.score_s += time.perf_counter() - started
        if learns and len(examples):
            started = time.perf_counter()
            track.learner.learn(examples)
            track.engine = engine_of(track.learner, settings, self.cache)
            track.learn_s += time.perf_counter() - started


def interval_of(name: str) -> float | None:
    """The update interval of a cadence in seconds; None for the protocol's windows and for never."""
    return None if name in ("fresh", "never") else cadence_seconds(name)
