"""Whatever ranks the requests of a backtest beside the model: the same windows, candidates and live histories.

C candidates; R requests.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.dataset import Dataset
from penstock.evaluation.baselines import Baseline
from penstock.evaluation.prequential import RankedRequests, Window, equal_windows, take_ranking
from penstock.features.examples import Asked, walk
from penstock.features.state import CausalState, FeatureSpec
from penstock.metrics import Floats
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.backtest import Protocol as CandidateRule
from penstock.settings import Settings

Probe = Callable[[Asked], None]
Ask = Callable[[int, Asked, NDArray[np.int64]], None]


class Contender(Protocol):
    """A ranker that takes the log window by window.

    Attributes:
        name: as it stands in the tables.
        state: supplies item rows and the users' live histories.
    """

    name: str
    state: CausalState

    def window(self, events: pl.DataFrame, requests: pl.DataFrame, probe: Probe, learns: bool) -> None:
        """Show `probe` every request, histories moving along; then learn from the events where `learns`."""
        ...

    def warmed(self) -> None:
        """The warm-up is over; what learns best from all of it at once does so now."""
        ...

    def scores(self, asked: Asked, row_C: NDArray[np.int64]) -> Floats:
        """Scores [C] of candidate rows, higher is better."""
        ...


@dataclass
class Run:
    """What a contender ranked, and what that cost: seconds of learning in the stream, in the warm-up, of ranking."""

    ranked: RankedRequests = field(default_factory=RankedRequests)
    learn_s: float = 0.0
    warm_up_s: float = 0.0
    score_s: float = 0.0


class Counted:
    """A contender that counts events and learns nothing else; users are numbered as they come."""

    def __init__(self, baseline: Baseline, state: CausalState) -> None:
        self.name, self.baseline, self.state = baseline.name, baseline, state
        self.users: dict[str, int] = {}

    def window(self, events: pl.DataFrame, requests: pl.DataFrame, probe: Probe, learns: bool) -> None:
        for asked in walk(self.state, events, requests, "window", count=False):
            probe(asked)
        if learns:
            self.baseline.update(*counted_events(self.state, events, self.users))

    def warmed(self) -> None:
        """Counts are complete as they are."""

    def scores(self, asked: Asked, row_C: NDArray[np.int64]) -> Floats:
        user = self.users.setdefault(asked.request["user_id"], len(self.users))
        return self.baseline.scores(user, asked.history.row_L, asked.at_s)[row_C]


def counted_events(
    state: CausalState, events: pl.DataFrame, users: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """User numbers, item rows and seconds of the events that are no impressions, in time order; `users` grows."""
    counted = events.filter(pl.col("kind") != "impression").sort("at", "event_id")
    row_E = np.array([state.row_of.get(item, -1) for item in counted["item_id"].to_list()], np.int64)
    user_E = np.array([users.setdefault(user, len(users)) for user in counted["user_id"].to_list()], np.int64)
    at_s_E = counted["at"].dt.timestamp("us").to_numpy() / 1e6
    known_E = row_E >= 0
    return user_E[known_E], row_E[known_E], at_s_E[known_E]


def empty_state(dataset: Dataset, settings: Settings) -> CausalState:
    """A state that knows the catalogue and no event."""
    state = CausalState(FeatureSpec.of(settings))
    state.add_items(dataset.catalogue)
    return state


def run_contender(backtest: Backtest, contender: Contender, learns: bool = True) -> Run:
    """Warm a contender up and let it rank every scored request of the stream.

    Args:
        learns: learn from each window once it is ranked; else stay as the warm-up left it, histories still live.
    """
    run = Run()

    def ask(number: int, asked: Asked, row_C: NDArray[np.int64]) -> None:
        score_C = contender.scores(asked, row_C)
        take_ranking(run.ranked, contender.state, (number, asked), row_C, score_C)

    started = time.perf_counter()
    warm_up(backtest, contender)
    run.warm_up_s = time.perf_counter() - started
    replay_stream(backtest, contender, ask, run, learns)
    return run


def warm_up(backtest: Backtest, contender: Contender) -> None:
    """Hand the warm-up to a contender in slices, none of it scored."""
    for window in _filled(equal_windows(backtest.warm, backtest.settings.backtest.windows)):
        contender.window(window.events, backtest.grouped(window.events), lambda asked: None, learns=True)
    contender.warmed()


def replay_stream(backtest: Backtest, contender: Contender, ask: Ask, run: Run, learns: bool = True) -> None:
    """Call `ask` for every scored request of the stream, windows learned from once they are over."""
    protocol = CandidateRule(contender.state, backtest.dataset.meta.repeats)
    protocol.advance(backtest.warm)
    windows = backtest.windows(None)
    row_of = contender.state.row_of

    def probe(asked: Asked) -> None:
        found = backtest.scored(asked)
        if found is not None:
            began = time.perf_counter()
            shown = [row_of[item] for item in asked.request["shown"] if item in row_of]
            ask(*found, np.array(shown, np.int64) if asked.request["shown"] else protocol.candidates(asked))
            run.score_s += time.perf_counter() - began

    for window in _filled(windows):
        began, scored_s = time.perf_counter(), run.score_s
        contender.window(window.events, backtest.grouped(window.events), probe, learns)
        run.learn_s += time.perf_counter() - began - (run.score_s - scored_s)
        protocol.advance(window.events)
        backtest.progress(contender.name, window.index + 1, len(windows))


def _filled(windows: Iterable[Window]) -> list[Window]:
    return [window for window in windows if len(window.events)]
