"""The protocol of `penstock backtest`: how a log is split, which requests are scored, who is a candidate.

For each window a track's model ranks the window's requests first and learns from them after; `never` keeps the
model of the warm-up. Users' histories are live on every track, so that freshness of the model is all that differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.dataset import Dataset
from penstock.data.requests import group_requests
from penstock.errors import EmptyWindow
from penstock.evaluation.outcomes import Wanted
from penstock.evaluation.prequential import Window, cadence_seconds, equal_windows, sample_requests, split_stream
from penstock.export.rank import item_vectors, rank_graphs
from penstock.features.examples import Asked, Sampler, build_examples
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
        return self._not_had(self._rows, asked)

    def on_offer(self, asked: Asked) -> NDArray[np.int64]:
        """Rows to rank when items that nobody had yet count too, as far as they are published at the request."""
        return self._not_had(self.state.offered(asked.at_s), asked)

    def _not_had(self, row_C: NDArray[np.int64], asked: Asked) -> NDArray[np.int64]:
        if self.repeats or not len(asked.history):
            return row_C
        return row_C[~np.isin(row_C, asked.history.row_L)]


class Backtest:
    """A log under the protocol: events of warm-up and stream, and the requests that are scored.

    Raises:
        EmptyWindow: warm-up or stream would be empty, or nothing in the stream can be scored.
    """

    def __init__(self, dataset: Dataset, settings: Settings, cache: Path, progress: Progress) -> None:
        self.dataset = dataset
        self.settings = settings.override({"features.refresh": "window", "data.repeats": dataset.meta.repeats})
        self.cache, self.progress = cache, progress
        events = positives(dataset, self.settings)
        self.warm, self.stream = split_stream(events, self.settings.backtest.warmup)
        self.truth = self._truth()
        self.by_number = {one.number: one for one in self.truth.values()}
        if not self.truth:
            raise EmptyWindow(
                f"the stream's {len(self.stream)} events hold no request that led to an item, expected one at least; "
                "lower --warmup, or see that the kinds that count have a gain in data.gains"
            )

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
        """Walk the first part of the log in slices, then learn from it.

        Raises:
            EmptyWindow: nothing in it led to anything.
        """
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
        if not parts:
            raise EmptyWindow(
                f"the warm-up's {len(self.warm)} events hold no request that led to an item, expected one at least; "
                "raise --warmup, or see that the kinds that count have a gain in data.gains"
            )
        examples = parts[0].join(parts)
        parts.clear()  # the log's largest arrays, not to be held twice while they are learned
        learner.learn(examples)
        return state, learner

    def windows(self, every_s: float | None) -> list[Window]:
        """The stream's windows: the protocol's, or one per update of the cadence."""
        if every_s is None:
            return equal_windows(self.stream, self.settings.backtest.windows)
        return equal_windows(self.stream, length_s=every_s)

    def groups(self, every_s: float | None) -> list[list[Window]]:
        """The cadence's windows that hold events, those together that begin within one window of the protocol.

        After each group a track keeps what it has; where the cadence is the longer of the two, a group is one window.
        """
        protocol = self.windows(None)
        edges = np.array([window.start_s for window in protocol])
        groups: dict[int, list[Window]] = {}
        for window in self.windows(every_s):
            if len(window.events):
                inside = int(np.searchsorted(edges, window.start_s + 1e-6, side="right")) - 1
                groups.setdefault(inside, []).append(window)
        return [groups[inside] for inside in sorted(groups)]

    def first_scored_window(self) -> Window:
        """The protocol's first window that holds a scored request."""
        first = min(one.window for one in self.truth.values())
        return self.windows(None)[first]

    def unseen_wanted(self) -> set[int]:
        """Numbers of the scored requests that led to an item without any event before their protocol window."""
        first: dict[str, int] = dict.fromkeys(self.warm["item_id"].unique().to_list(), -1)
        for window in self.windows(None):
            for item in window.events["item_id"].unique().to_list():
                first.setdefault(item, window.index)
        truth = self.truth.values()
        return {one.number for one in truth if any(first.get(item, one.window) >= one.window for item in one.relevant)}

    def ranks(self, numbers: list[int], rankings: list[list[str]]) -> list[list[int]]:
        """Where each request's relevant items stand in its ranking: from 1, 0 where they do not."""
        out = []
        for number, items in zip(numbers, rankings, strict=True):
            place = {item: rank for rank, item in enumerate(items, start=1)}
            out.append([place.get(item, 0) for item in self.by_number[number].relevant])
        return out

    def wanted(self) -> Wanted:
        """The scored requests as arrays."""
        rows = [(one.number, one.user, one.window, one.at.timestamp(), one.relevant) for one in self.truth.values()]
        return Wanted.of(rows)


def interval_of(name: str) -> float | None:
    """The update interval of a cadence in seconds; None for the protocol's windows and for never."""
    return None if name in ("fresh", "never") else cadence_seconds(name)
