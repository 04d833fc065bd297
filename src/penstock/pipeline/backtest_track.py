"""One cadence over the stream: each window ranked, then learned from; kept on disk as it goes, and taken up again.

Memory: the state, the learner and its replay, and one group of windows (their rankings and examples). Rankings leave
memory with each group. Weights are learned once at least `validation.min_rows` requests wait, as a round does, and at
the end of a group; counters move with every window.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from penstock.evaluation.prequential import RankedRequests, Ranker, Window
from penstock.features.examples import Asked, Examples, build_examples, walk
from penstock.features.state import CausalState
from penstock.inference.engine import RankEngine
from penstock.pipeline.backtest import Backtest, Protocol, engine_of, interval_of, sampler_of
from penstock.pipeline.backtest_recall import RecallProbe
from penstock.pipeline.backtest_store import PART_FILE, BacktestStore, MethodStore
from penstock.training.checkpoint import Carried, load_checkpoint, save_checkpoint
from penstock.training.learner import Learner

NEVER = "never"
MOMENTS = ("before", "after", "end")
FORGETTING_AGES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
"""After so many groups of windows the first one is ranked once more, to see what of it is forgotten."""


@dataclass
class Track:
    """One cadence in memory: its state and learner, who is a candidate, and what waits to be learned."""

    name: str
    state: CausalState
    learner: Learner
    engine: RankEngine
    protocol: Protocol
    waiting: list[Examples] = field(default_factory=list)

    @property
    def learns(self) -> bool:
        """Whether its weights move."""
        return self.name != NEVER


@dataclass
class Tally:
    """What one group of windows cost: seconds of learning (with the export) and of walking and ranking."""

    learn_s: float = 0.0
    score_s: float = 0.0
    updates: int = 0
    learned_requests: int = 0


class TrackRun:
    """Runs one cadence to its end; see the module.

    Args:
        sampled: numbers of the requests whose candidate sources are measured on this track.
    """

    def __init__(self, backtest: Backtest, store: BacktestStore, name: str, sampled: set[int]) -> None:
        self.backtest, self.store, self.name, self.sampled = backtest, store, name, sampled
        self.kept: MethodStore = store.cadence(name)
        self.groups = backtest.groups(interval_of(name))
        self.unseen = backtest.unseen_wanted()

    def run(self) -> None:
        """Go on after the newest checkpoint; does nothing where the track is finished.

        Raises:
            TrainingError: a loss that is not finite or spikes.
            BundleError: a checkpoint that cannot be read.
        """
        if self.kept.finished:
            self.kept.drop_parts()
            return
        done = self.kept.newest() if self.name != NEVER else self.kept.parts_done()
        track = self._resumed(done)
        if track.learns and done == 0:
            self._first_window(track, "before")
        self.backtest.progress(self.name, done, len(self.groups))
        for index in range(done, len(self.groups)):
            self._group(track, index)
            self.backtest.progress(self.name, index + 1, len(self.groups))
        if track.learns:
            self._first_window(track, "end")
        self.kept.finish(len(self.groups), self._facts())

    def _resumed(self, done: int) -> Track:
        """The track as it was after `done` groups: from its checkpoint, or from the warm-up's."""
        backtest = self.backtest
        source = self.kept.checkpoint(done) if done and self.name != NEVER else self.store.warm_up
        learner, state, _ = load_checkpoint(source, backtest.settings)
        learner.cache.add(learner.texts)  # all at once, as at the start: batches of other texts round differently
        protocol = Protocol(state, backtest.dataset.meta.repeats)
        protocol.advance(backtest.warm)
        for group in self.groups[:done]:
            for window in group:
                protocol.advance(window.events)
                if self.name == NEVER:
                    state.observe_history(state.batch(window.events.sort("at", "event_id")))
        engine = engine_of(learner, backtest.settings, backtest.cache)
        return Track(self.name, state, learner, engine, protocol)

    def _group(self, track: Track, index: int) -> None:
        """Score and learn one group of windows, then keep it: first the part, then the checkpoint that counts it."""
        ranked, widened, tally = RankedRequests(), RankedRequests(), Tally()
        recall = RecallProbe(
            self.sampled, self.backtest.settings.service.candidates, self.backtest.dataset.meta.repeats
        )
        for window in self.groups[index]:
            self._window(track, window, ranked, widened, recall, tally)
        self._learn(track, tally)
        facts = {**vars(tally), "recall": recall.found}
        self.kept.write_part(index, self._part(ranked, widened), facts)
        if track.learns:
            if index == 0:
                self._first_window(track, "after")
            elif index + 1 in FORGETTING_AGES and index + 1 < len(self.groups):
                self._first_window(track, f"learned-{index + 1}")
            save_checkpoint(track.learner, track.state, Carried(), self.kept.checkpoint(index + 1))
            self.kept.drop_older(index + 1)

    def _window(
        self,
        track: Track,
        window: Window,
        ranked: RankedRequests,
        widened: RankedRequests,
        recall: RecallProbe,
        tally: Tally,
    ) -> None:
        backtest, state = self.backtest, track.state
        requests = backtest.grouped(window.events)
        ranker = Ranker(state, track.engine, ranked, track.protocol.candidates)
        wide = Ranker(state, track.engine, widened, track.protocol.on_offer)
        started = time.perf_counter()

        def probe(asked: Asked) -> None:
            found = backtest.scored(asked)
            if found is None:
                return
            ranker.ask(*found)
            if found[0] in self.unseen:
                wide.ask(*found)
            recall.ask(*found, state, track.engine)

        if track.learns:
            sampler = sampler_of(backtest.settings, 1000 + window.index)
            examples = build_examples(state, window.events, requests, "window", sampler, probe)
            if len(examples):
                track.waiting.append(examples)
        else:
            for asked in walk(state, window.events, requests, "window", count=False):
                probe(asked)
        ranker.finish()
        wide.finish()
        track.protocol.advance(window.events)
        tally.score_s += time.perf_counter() - started
        if sum(map(len, track.waiting)) >= backtest.settings.validation.min_rows:
            self._learn(track, tally)

    def _learn(self, track: Track, tally: Tally) -> None:
        """Learn from all that waits."""
        if not track.waiting:
            return
        started = time.perf_counter()
        examples = Examples.join(track.waiting)
        track.learner.learn(examples)
        track.engine = engine_of(track.learner, self.backtest.settings, self.backtest.cache)
        track.waiting = []
        tally.learn_s += time.perf_counter() - started
        tally.updates += 1
        tally.learned_requests += len(examples)

    def _part(self, ranked: RankedRequests, widened: RankedRequests) -> pl.DataFrame:
        """The rankings of a group as PART_FILE."""
        wide = dict(zip(widened.request_id, widened.items, strict=True))
        ranks = self.backtest.ranks(ranked.request_id, ranked.items)
        columns = {
            "request_id": ranked.request_id,
            "items": ranked.items,
            "ranks": ranks,
            "widened": [
                self.backtest.ranks([number], [wide[number]])[0] if number in wide else None
                for number in ranked.request_id
            ],
            "auc": ranked.auc,
            "earlier": ranked.earlier_events,
        }
        return pl.DataFrame(columns, schema=PART_FILE).sort("request_id")

    def _first_window(self, track: Track, moment: str) -> None:
        """Rank the first scored window as the state stood at the stream's start, with the model of `moment`."""
        backtest = self.backtest
        window = backtest.first_scored_window()
        state = CausalState.load(self.store.warm_up / "state")
        protocol = Protocol(state, backtest.dataset.meta.repeats)
        protocol.advance(backtest.warm)
        ranked = RankedRequests()
        ranker = Ranker(state, track.engine, ranked, protocol.candidates)
        for asked in walk(state, window.events, backtest.grouped(window.events), "window", count=False):
            found = backtest.scored(asked)
            if found is not None:
                ranker.ask(*found)
        ranker.finish()
        self.kept.write_moment(moment, dict(zip(ranked.request_id, ranked.auc, strict=True)))

    def _facts(self) -> dict[str, Any]:
        """What the whole track cost, its share of the candidate sources, and its first window at three moments."""
        parts = self.kept.part_facts(len(self.groups))
        facts: dict[str, Any] = {
            key: sum(part[key] for part in parts) for key in ("learn_s", "score_s", "updates", "learned_requests")
        }
        facts["windows"] = sum(map(len, self.groups))
        facts["recall"] = merged(part["recall"] for part in parts)
        moments = self._moments() if self.name != NEVER else {}
        facts["first_window"] = {moment: self.kept.moment(moment) for moment in moments} or None
        facts["first_window_at_s"] = moments
        return facts

    def _moments(self) -> dict[str, float]:
        """When the first window was ranked, as seconds of the stream's time, in order."""
        ends_s = [group[-1].end_s for group in self.groups]
        ages = [age for age in FORGETTING_AGES if age < len(ends_s)]
        before, after, end = MOMENTS
        return (
            {before: self.groups[0][0].start_s, after: ends_s[0]}
            | {f"learned-{age}": ends_s[age - 1] for age in ages}
            | {end: ends_s[-1]}
        )


def merged(trees: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The union of dictionaries with distinct keys."""
    return {key: value for tree in trees for key, value in tree.items()}
