"""One round of the ranking task: score with the champion, learn, export, compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.requests import group_requests
from penstock.errors import EmptyWindow, ExportError
from penstock.evaluation.evidence import AnchorScores, BundleFacts, Evidence
from penstock.evaluation.gate_slices import EXPECTED, RequestKinds
from penstock.evaluation.infra import InfraVerdict
from penstock.evaluation.prequential import RankedRequests, Ranker
from penstock.evaluation.top_lists import ListMaker
from penstock.export.bundle import BundleWriter
from penstock.export.rank import item_vectors, projected, rank_graphs, text_graph, torch_scores
from penstock.features.examples import Asked, Examples, Sampler, build_examples
from penstock.features.state import CausalState
from penstock.inference.engine import RankEngine, TextEngine
from penstock.inference.scorer import Scorer, one_request
from penstock.pipeline.measures import LATENCY_CANDIDATES, folder_mb, median_ms
from penstock.pipeline.parity import largest_difference, parity, text_difference
from penstock.pipeline.source_probe import YieldProbe
from penstock.pipeline.stages import Stages
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.anchors import Anchor, example_ndcg, spread_out, thinned
from penstock.training.checkpoint import Carried
from penstock.training.learner import Learner, LearnReport

TEXTS_CHECKED = 32


@dataclass
class RankRound:
    """The learner and state of one round, moving forward through its stages."""

    settings: Settings
    learner: Learner
    state: CausalState
    catalogue: pl.DataFrame
    champion: Scorer | None
    carried: Carried

    def take_in(self) -> None:
        """Know the catalogue's items, and let the champion know them too."""
        known = set(self.state.items)
        fresh = self.catalogue.filter(~pl.col("item_id").is_in(known)) if known else self.catalogue
        self.state.add_items(fresh)
        self.learner.add_texts(item_texts(fresh))
        if self.champion is not None:
            self.champion.add_items(self.catalogue)

    def observe(self, events: pl.DataFrame, window_end: datetime) -> None:
        """Count events that are not learned from: those of refused rounds."""
        self.state.observe(self._due(events, window_end))

    def _due(self, events: pl.DataFrame, window_end: datetime) -> pl.DataFrame:
        """Events to count now: those before the window's end, the ones of the last round that were after theirs too.

        What followed a request after its window's end labels it, but is counted a round later: counted now, the next
        window's requests would see a click before it happened, and the service would count it twice.
        """
        due = events if self.carried.uncounted is None else pl.concat([self.carried.uncounted, events])
        self.carried.uncounted = due.filter(pl.col("at") >= window_end)
        return due.filter(pl.col("at") < window_end).sort("at", "event_id")

    def learn(self, events: pl.DataFrame, window_end: datetime) -> tuple[LearnReport, dict[str, float]]:
        """Rank the older requests with the champion, then learn from them; hold back the newest.

        Args:
            events: of one snapshot; what is not before `window_end` is a label only, and counted in the next round.

        Raises:
            EmptyWindow: no request led to anything.
            TrainingError: see Learner.learn.
        """
        requests = self._grouped(events)
        if not len(requests):
            raise EmptyWindow(f"{len(events)} events hold no request; nothing to learn from")
        events = self._due(events, window_end)
        cut = max(1, int(len(requests) * (1 - self.settings.training.holdout_share)))
        boundary = requests["at"][cut] if cut < len(requests) else None
        if boundary is None:
            older, self._held_requests = requests, requests[:0]
            self._held_events = events[:0]
            events_before = events
        else:
            older = requests.filter(pl.col("at") < boundary)
            self._held_requests = requests.filter(pl.col("at") >= boundary)
            events_before = events.filter(pl.col("at") < boundary)
            self._held_events = events.filter(pl.col("at") >= boundary)
        scored = RankedRequests()
        ranker = self._ranker(self.champion_engine(), scored) if self.champion else None
        sampler = self._sampler(0)
        probe = Probe([ranker] if ranker else [])
        examples = build_examples(self.state, events_before, older, self.settings.features.refresh, sampler, probe)
        if ranker:
            ranker.finish()
        parts = [part for part in (self.carried.held_out, examples) if part is not None and len(part)]
        if not parts:
            raise EmptyWindow(f"{len(requests)} requests led to nothing that can be learned from")
        joined = Examples.join([part for part in parts if isinstance(part, Examples)])
        report = self.learner.learn(joined)
        means = {f"prequential_{name}": value for name, value in scored.means().items()} if ranker else {}
        return report, means

    def learn_all(self, events: pl.DataFrame) -> LearnReport:
        """Learn from every request and hold nothing back: the batch pipeline has a holdout of its own.

        Raises:
            EmptyWindow: no request led to anything.
            TrainingError: see Learner.learn.
        """
        refresh = self.settings.features.refresh
        examples = build_examples(self.state, events, self._grouped(events), refresh, self._sampler(0))
        if not len(examples):
            raise EmptyWindow(f"{len(events)} events hold no request that led to something; nothing to learn from")
        return self.learner.learn(examples)

    def write(self, writer: BundleWriter, cache: Path, stages: Stages) -> None:
        """Export, measure on the held-out requests, and keep the state as it then stands."""
        engine = self._write_graphs(writer, cache)
        stages.done("export")
        self._measure(engine, writer)
        stages.done("held-out scores")
        writer.state(self.state)
        stages.done("counters")

    def write_unjudged(self, writer: BundleWriter, cache: Path) -> float:
        """Export with nothing held out. Returns the parity error, measured on requests that were learned from."""
        engine = self._write_graphs(writer, cache)
        kept = self.learner.reservoir.kept
        if not isinstance(kept, Examples):
            raise ExportError("nothing was learned from, so parity cannot be measured; train first, with replay on")
        error = self._parity(engine, kept, writer.part)
        writer.state(self.state)
        return error

    def _write_graphs(self, writer: BundleWriter, cache: Path) -> RankEngine:
        model = self.learner.task.model
        width = self.learner.encoder.width
        self.learner.refresh(np.arange(min(TEXTS_CHECKED, len(self.learner.texts))))  # parity is measured on these
        vector_NE = item_vectors(model, self.learner.text_NT)
        graphs = rank_graphs(model, self.settings, self.learner.spec, width, cache)
        graphs["text.onnx"] = text_graph(self.learner.encoder, model.item.projection, self.settings, cache)
        writer.graphs(graphs, self.learner.cache.tokenizer)
        by_id = pl.DataFrame({"item_id": self.state.items}).join(
            self.catalogue, on="item_id", how="left", maintain_order="left"
        )
        writer.items(by_id.with_columns(pl.col("title").fill_null("")), vector_NE)
        return RankEngine(writer.part / "user.onnx", writer.part / "rank.onnx", vector_NE, width)

    def _measure(self, engine: RankEngine, writer: BundleWriter) -> None:
        """Rank the held-out requests with challenger and champion, and learn from them in the next round."""
        gates = self.settings.gates
        engines = [engine] if self.champion is None else [engine, self.champion_engine()]
        ranked = [RankedRequests(scaled_loss=[]) for _ in engines]
        rankers = [self._ranker(one, out) for one, out in zip(engines, ranked, strict=True)]
        makers = [ListMaker(self.state, one, self.settings.service.candidates) for one in engines]
        yields = YieldProbe(self.state, engine, self.settings.service.candidates)
        kinds = RequestKinds(self.state, gates)
        every = max(1, len(self._held_requests) // gates.list_requests)
        users: list[str] = []
        held = build_examples(
            self.state,
            self._held_events,
            self._held_requests,
            self.settings.features.refresh,
            self._sampler(1),
            Probe(rankers, [kinds], [*makers, yields], every),
            users,
        )
        for ranker in rankers:
            ranker.finish()
        self.carried.held_out = held if len(held) else None
        self.metrics = {f"held_out_{name}": value for name, value in ranked[0].means().items()}
        lists = [maker.figures(engine.vector_NE) for maker in makers]
        self._measured = Evidence(
            ranked[0].scores(),
            ranked[1].scores() if len(ranked) > 1 else None,
            BundleFacts(self._parity(engine, held, writer.part), self._latency(engine), math.nan),
            None,
            kinds.masks(),
            EXPECTED,
            lists[0],
            lists[1] if len(lists) > 1 else None,
            self._anchor_scores(engines),
        )
        if len(held):
            picked = spread_out(len(held), gates.anchor_requests)
            some, owner_R = held.take(picked), np.unique(np.array(users), return_inverse=True)[1][picked]
            then_R = example_ndcg(some, engine.scores(some))
            until = datetime.fromtimestamp(self.state.counted_s, UTC).isoformat()
            fresh = Anchor(self.learner.rounds, until, owner_R.astype(np.int64), some, then_R)
            ages = gates.anchor_ages_rounds
            self.carried.anchors = thinned([fresh, *self.carried.anchors], self.learner.rounds, ages)

    def _anchor_scores(self, engines: list[RankEngine]) -> tuple[AnchorScores, ...]:
        """Frozen requests of earlier rounds, ranked by challenger and champion."""
        found = []
        for anchor in self.carried.anchors:
            age, batch = self.learner.rounds - anchor.round, anchor.batch
            if age >= min(self.settings.gates.anchor_ages_rounds) and isinstance(batch, Examples):
                own, *others = (example_ndcg(batch, engine.scores(batch)) for engine in engines)
                other = others[0] if others else None
                found.append(AnchorScores(age, anchor.until, anchor.unit_R, own, other, anchor.then_R))
        return tuple(found)

    def _latency(self, engine: RankEngine) -> float:
        row_C = np.arange(min(LATENCY_CANDIDATES, len(self.state.items)))
        history = self.state.histories.of(self.state.histories.users()[-1])
        at_s = self.state.counted_s

        def once() -> None:
            feature_CF = self.state.features(history, row_C, at_s)
            engine.scores(one_request(self.state, history, row_C, feature_CF, at_s))

        return median_ms(once)

    def _parity(self, engine: RankEngine, held: Examples, folder: Path) -> float:
        model, limits = self.learner.task.model, self.settings.export
        texts = self.learner.texts[:TEXTS_CHECKED]
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        text_BT, item_BE = TextEngine(folder / "text.onnx", tokenizer).encode(texts)
        differences = [
            text_difference(text_BT, self.learner.text_NT[: len(texts)].numpy(), limits),
            largest_difference(item_BE, projected(model, text_BT)),
        ]
        if len(held):
            some = held.take(slice(0, 64))
            differences.append(largest_difference(engine.scores(some), torch_scores(model, engine.vector_NE, some)))
        return parity(differences, limits)

    def evidence(self, bundle: Path, infra: InfraVerdict) -> Evidence:
        """All that the gates are judged on, now that the bundle is finished and was tried."""
        facts = replace(self._measured.facts, size_mb=folder_mb(bundle))
        return replace(self._measured, facts=facts, infra=infra)

    def model_facts(self) -> dict[str, object]:
        """What the manifest says of the model."""
        return {"width": self.settings.model.width, "text_width": self.learner.encoder.width, "labels": []}

    def champion_engine(self) -> RankEngine:
        """The champion's graphs over the items in the state's order; items it never had are zeros to it."""
        assert self.champion is not None
        if self.champion.state.items != self.state.items:
            place = {item: row for row, item in enumerate(self.champion.state.items)}
            known = [(row, place[item]) for row, item in enumerate(self.state.items) if item in place]
            own_NE = self.champion.engine.vector_NE
            vector_NE = np.zeros((len(self.state.items), own_NE.shape[1]), np.float32)
            vector_NE[[row for row, _ in known]] = own_NE[[row for _, row in known]]
            self.champion.engine.vector_NE = vector_NE
            self.champion.state.items = list(self.state.items)
        return self.champion.engine

    def _grouped(self, events: pl.DataFrame) -> pl.DataFrame:
        data = self.settings.data
        return group_requests(events, data.gains, data.positive_rating_min)

    def _ranker(self, engine: RankEngine, out: RankedRequests) -> Ranker:
        return Ranker(self.state, engine, out, lambda asked: self.state.eligible())

    def _sampler(self, part: int) -> Sampler:
        training = self.settings.training
        seed = self.settings.seed * 7919 + self.learner.rounds * 2 + part
        return Sampler(training.negatives, training.popular_negative_share, seed)


class Probe:
    """Shows each request that led to something to the rankers, before it is learned from.

    Args:
        notes: what takes note of every such request; lists: what asks the candidate sources for one in `every` of them.
    """

    def __init__(
        self,
        rankers: list[Ranker],
        notes: Sequence[RequestKinds] = (),
        lists: Sequence[ListMaker | YieldProbe] = (),
        every: int = 1,
    ) -> None:
        self.rankers, self.notes, self.lists, self.every = rankers, notes, lists, every
        self.count = 0

    def __call__(self, asked: Asked) -> None:
        """Ask everybody."""
        if not asked.request["relevant"]:
            return
        for ranker in self.rankers:
            ranker.ask(self.count, asked)
        for note in self.notes:
            note.ask(asked)
        for maker in self.lists if self.count % self.every == 0 else ():
            maker.ask(asked)
        self.count += 1
