"""Full retrain: a fresh model learned from scratch on everything so far, to hold online micro-batches against.

Only the weights are made anew. Counters and histories move exactly as on the online track, the examples are those the
online track learned from, and the frozen layers' activations of a text are computed once for all retrains, so what is
compared is learning alone. Memory: every example of warm-up and stream.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penstock.errors import SettingsError
from penstock.evaluation.prequential import RankedRequests, Ranker, Window, equal_windows
from penstock.features.examples import Asked, Examples, build_examples
from penstock.features.state import CausalState
from penstock.pipeline.backtest import Backtest, Protocol, engine_of, make_track, sampler_of
from penstock.training.learner import Learner


@dataclass
class Retrained:
    """What retraining came to.

    Attributes:
        ranked: the scored requests, each ranked by the newest retrained model.
        windows: windows of the stream that hold events; `every`: how many lie between two retrains.
        at_window, seconds: for each retrain, how many windows it had learned and what it took (learning and export).
        last_loss: mean loss of the last retrain, nats.
    """

    ranked: RankedRequests = field(default_factory=RankedRequests)
    windows: int = 0
    every: int = 1
    at_window: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    last_loss: float = float("nan")

    def seconds_at_each_window(self) -> float:
        """Seconds that a retrain after every window takes: measured where `every` is 1, else interpolated."""
        windows = np.arange(1, self.windows + 1)
        return float(np.interp(windows, self.at_window, self.seconds).sum())


def run_retrain(backtest: Backtest, every: int) -> Retrained:
    """Rank every scored request of the stream with a model retrained from scratch after every `every` windows.

    The first model is that of the warm-up. A retrain costs the epochs of a warm-up over all examples so far.

    Raises:
        SettingsError: `every` below 1.
        TrainingError: a loss that is not finite or spikes.
    """
    if every < 1:
        raise SettingsError(f"full retrain: every {every} windows, expected 1 or more")
    track = _Retraining(backtest)
    out = Retrained(every=every)
    for window in _filled(equal_windows(backtest.warm, backtest.settings.backtest.windows)):
        track.learn_later(track.walked(window, window.index))
    # As in the warm-up of a track: the first slices saw almost no counts.
    track.parts = [part for part in track.parts[len(track.parts) // 8 :] if len(part)]
    track.retrain(out)
    protocol = Protocol(track.state, backtest.dataset.meta.repeats)
    protocol.advance(backtest.warm)
    windows = _filled(backtest.windows(None))
    for count, window in enumerate(windows, start=1):
        ranker = Ranker(track.state, track.engine, out.ranked, protocol.candidates)
        examples = track.walked(window, 1000 + window.index, ranker)
        ranker.finish()
        track.learn_later(examples)
        protocol.advance(window.events)
        out.windows = count
        if count % every == 0 and count < len(windows):
            track.retrain(out)
        backtest.progress("full retrain", count, len(windows))
    return out


class _Retraining:
    """The state that moves along, the examples so far, and the newest model."""

    def __init__(self, backtest: Backtest) -> None:
        self.backtest = backtest
        self.state: CausalState
        self.learner: Learner
        self.state, self.learner = make_track("full retrain", backtest.dataset, backtest.settings)
        self.parts: list[Examples] = []
        self.engine = engine_of(self.learner, backtest.settings, backtest.cache)

    def walked(self, window: Window, seed: int, ranker: Ranker | None = None) -> Examples:
        """A window's examples; its scored requests go to `ranker` first."""
        backtest = self.backtest

        def probe(asked: Asked) -> None:
            found = backtest.scored(asked)
            if ranker is not None and found is not None:
                ranker.ask(*found)

        requests: pl.DataFrame = backtest.grouped(window.events)
        sampler = sampler_of(backtest.settings, seed)
        return build_examples(self.state, window.events, requests, "window", sampler, probe)

    def learn_later(self, examples: Examples) -> None:
        """Keep examples for every retrain to come."""
        if len(examples):
            self.parts.append(examples)

    def retrain(self, out: Retrained) -> None:
        """Forget the model and learn another from everything kept."""
        _, learner = make_track("full retrain", self.backtest.dataset, self.backtest.settings)
        started = time.perf_counter()
        report = learner.learn(Examples.join(self.parts))
        self.engine = engine_of(learner, self.backtest.settings, self.backtest.cache)
        out.seconds.append(time.perf_counter() - started)
        out.at_window.append(out.windows)
        out.last_loss = report.loss


def _filled(windows: list[Window]) -> list[Window]:
    return [window for window in windows if len(window.events)]
