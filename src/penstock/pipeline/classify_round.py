"""One round of the classification task: the same stages as a ranking round, over labelled texts."""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.errors import EmptyWindow, ExportError
from penstock.evaluation.calibration import scaled_losses
from penstock.evaluation.evidence import AnchorScores, BundleFacts, Evidence, RequestScores
from penstock.evaluation.infra import InfraVerdict
from penstock.export.bundle import BundleWriter
from penstock.export.rank import classify_graph, text_graph
from penstock.features.examples import Labelled
from penstock.features.state import CausalState
from penstock.inference.engine import TextEngine
from penstock.inference.scorer import Scorer
from penstock.inference.sessions import Session
from penstock.metrics import PROBABILITY_FLOOR, class_log_loss, correct
from penstock.model.classifier import LOGIT_SCALE
from penstock.pipeline.measures import folder_mb, median_ms
from penstock.pipeline.parity import largest_difference, parity, text_difference
from penstock.pipeline.stages import Stages
from penstock.settings import Settings
from penstock.training.anchors import Anchor, spread_out, thinned
from penstock.training.checkpoint import Carried
from penstock.training.learner import Learner, LearnReport

SMALLEST = 1e-7
PARITY_TEXTS = 64


@dataclass
class ClassifyRound:
    """See RankRound; `state` only keeps the list of labels."""

    settings: Settings
    learner: Learner
    state: CausalState
    catalogue: pl.DataFrame
    champion: Scorer | None
    carried: Carried

    def take_in(self) -> None:
        """Know the labels."""
        self.state.add_items(self.catalogue)
        self.learner.add_labels(len(self.state.items))
        title = dict(self.catalogue.select("item_id", "title").iter_rows())
        self.learner.task.name_row_K = self._rows([title.get(label) or label for label in self.state.items])

    def observe(self, events: pl.DataFrame, window_end: datetime) -> None:
        """A classifier keeps no counters."""

    def learn(self, events: pl.DataFrame, window_end: datetime) -> tuple[LearnReport, dict[str, float]]:
        """Classify the older texts with the champion, then learn from them; hold back the newest.

        Raises:
            EmptyWindow: no labelled text.
            TrainingError: see Learner.learn.
        """
        labelled = events.filter((pl.col("kind") == "label") & pl.col("query").is_not_null()).sort("at", "event_id")
        if labelled.is_empty():
            raise EmptyWindow(f"{len(events)} events hold no labelled text; expected kind 'label' with a query")
        cut = max(1, int(len(labelled) * (1 - self.settings.training.holdout_share)))
        older, self._held = labelled[:cut], labelled[cut:]
        means: dict[str, float] = {}
        if self.champion is not None:
            scores = self._scores(self._champion_probability(older["query"].to_list()), older)
            means = {"prequential_accuracy": float(scores.primary.mean())}
        parts = [self._labelled(older)]
        if isinstance(self.carried.held_out, Labelled):
            parts.insert(0, self.carried.held_out)
        return self.learner.learn(Labelled.join(parts)), means

    def learn_all(self, events: pl.DataFrame) -> LearnReport:
        """Learn from every labelled text; see RankRound.learn_all."""
        labelled = events.filter((pl.col("kind") == "label") & pl.col("query").is_not_null()).sort("at", "event_id")
        if labelled.is_empty():
            raise EmptyWindow(f"{len(events)} events hold no labelled text; expected kind 'label' with a query")
        return self.learner.learn(self._labelled(labelled))

    def _labelled(self, events: pl.DataFrame) -> Labelled:
        label_R = np.array([self.state.row_of[item] for item in events["item_id"].to_list()], np.int64)
        return Labelled(self._rows(events["query"].to_list()), label_R)

    def _rows(self, texts: list[str]) -> NDArray[np.int64]:
        """Where texts are in the learner's table; new ones are added."""
        known = {text: row for row, text in enumerate(self.learner.texts)}
        self.learner.add_texts([text for text in dict.fromkeys(texts) if text not in known])
        known = {text: row for row, text in enumerate(self.learner.texts)}
        return np.array([known[text] for text in texts], np.int64)

    def write(self, writer: BundleWriter, cache: Path, stages: Stages) -> None:
        """Export and measure on the held-out texts."""
        text, head = self._write_graphs(writer, cache)
        stages.done("export")
        texts = self._held["query"].to_list()
        if not texts:
            raise EmptyWindow("no labelled text is left to measure the gates on; the snapshot is too small")
        text_BT = text.encode(texts)[0]
        probability_BK = head.run(text=text_BT)[0]
        held = self._labelled(self._held)
        own = self._scores(probability_BK, self._held)
        champions = None
        if self.champion is not None:
            champions = self._scores(self._champion_probability(texts), self._held)
        latency_ms = median_ms(lambda: head.run(text=text.encode(texts[:1])[0]))
        facts = BundleFacts(self._parity(text_BT, head, held), latency_ms, math.nan)
        slices = {f"label {self.state.items[row]}": held.label_R == row for row in np.unique(held.label_R).tolist()}
        anchors = self._anchor_scores(text, head)
        self._measured = Evidence(own, champions, facts, None, slices, anchors=anchors)
        self._keep_anchor(held, own)
        self.carried.held_out = held
        self.metrics = {"held_out_accuracy": float(own.primary.mean())}
        stages.done("held-out scores")

    def _keep_anchor(self, held: Labelled, own: RequestScores) -> None:
        """Freeze some of the held-out texts, for later rounds to be measured on."""
        gates, rounds = self.settings.gates, self.learner.rounds
        picked = spread_out(len(held), gates.anchor_requests)
        owner_R = np.unique(own.user, return_inverse=True)[1][picked].astype(np.int64)
        until = self._held["at"][-1].isoformat()
        fresh = Anchor(rounds, until, owner_R, held.take(picked), own.primary[picked])
        self.carried.anchors = thinned([fresh, *self.carried.anchors], rounds, gates.anchor_ages_rounds)

    def _anchor_scores(self, text: TextEngine, head: Session) -> tuple[AnchorScores, ...]:
        """Frozen texts of earlier rounds, labelled by challenger and champion."""
        found = []
        for anchor in self.carried.anchors:
            age, batch = self.learner.rounds - anchor.round, anchor.batch
            if age < min(self.settings.gates.anchor_ages_rounds) or not isinstance(batch, Labelled):
                continue
            texts = [self.learner.texts[row] for row in batch.text_R.tolist()]
            own_B = correct(head.run(text=text.encode(texts)[0])[0].argmax(1), batch.label_R)
            other_B = None
            if self.champion is not None:
                other_B = correct(self._champion_probability(texts).argmax(1), batch.label_R)
            found.append(AnchorScores(age, anchor.until, anchor.unit_R, own_B, other_B, anchor.then_R))
        return tuple(found)

    def write_unjudged(self, writer: BundleWriter, cache: Path) -> float:
        """Export with nothing held out. Returns the parity error, measured on texts that were learned from."""
        text, head = self._write_graphs(writer, cache)
        kept = self.learner.reservoir.kept
        if not isinstance(kept, Labelled):
            raise ExportError("nothing was learned from, so parity cannot be measured; train first, with replay on")
        some = kept.take(slice(0, PARITY_TEXTS))
        text_BT = text.encode([self.learner.texts[row] for row in some.text_R.tolist()])[0]
        return self._parity(text_BT, head, some)

    def _write_graphs(self, writer: BundleWriter, cache: Path) -> tuple[TextEngine, Session]:
        network, width = self.learner.task.classifier, self.learner.encoder.width
        graphs = {
            "text.onnx": text_graph(self.learner.encoder, None, self.settings, cache),
            "classify.onnx": classify_graph(network, self.settings, width, cache),
        }
        writer.graphs(graphs, self.learner.cache.tokenizer)
        by_id = pl.DataFrame({"item_id": self.state.items}).join(
            self.catalogue, on="item_id", how="left", maintain_order="left"
        )
        writer.items(by_id, None)
        tokenizer = (writer.part / "tokenizer.json").read_text(encoding="utf-8")
        return TextEngine(writer.part / "text.onnx", tokenizer), Session(writer.part / "classify.onnx")

    def _parity(self, text_BT: NDArray[np.float32], head: Session, held: Labelled) -> float:
        self.learner.refresh(np.unique(held.text_R))
        reference_BT = self.learner.text_NT[held.text_R].numpy()
        network = self.learner.task.classifier
        weight, bias = (value.detach().cpu().numpy() for value in (network.weight, network.bias))
        logit_BK = LOGIT_SCALE * (reference_BT @ weight) + bias
        shifted_BK = np.exp(logit_BK - logit_BK.max(1, keepdims=True))
        probability_BK = head.run(text=reference_BT)[0]
        differences = [
            text_difference(text_BT, reference_BT, self.settings.export),
            largest_difference(probability_BK, shifted_BK / shifted_BK.sum(1, keepdims=True)),
        ]
        return parity(differences, self.settings.export)

    def _champion_probability(self, texts: list[str]) -> NDArray[np.float32]:
        assert self.champion is not None
        own_BK = self.champion.classify(texts)
        place = {label: row for row, label in enumerate(self.champion.labels)}
        out_BK = np.full((len(texts), len(self.state.items)), SMALLEST, np.float32)
        for column, label in enumerate(self.state.items):
            if label in place:
                out_BK[:, column] = own_BK[:, place[label]]
        return out_BK

    def _scores(self, probability_BK: NDArray[np.float32], events: pl.DataFrame) -> RequestScores:
        label_B = np.array([self.state.row_of[item] for item in events["item_id"].to_list()], np.int64)
        true_B1 = probability_BK[np.arange(len(label_B)), label_B][:, None]
        others = max(probability_BK.shape[1] - 1, 1)
        auc_B = ((probability_BK < true_B1).sum(1) + 0.5 * ((probability_BK == true_B1).sum(1) - 1)) / others
        log_BK = np.log(np.clip(probability_BK.astype(np.float64), PROBABILITY_FLOOR, 1.0))
        is_true_BK = np.arange(probability_BK.shape[1]) == label_B[:, None]
        scaled = [scaled_losses(is_true_K, log_K) for is_true_K, log_K in zip(is_true_BK, log_BK, strict=True)]
        return RequestScores(
            np.array(events["user_id"].to_list()),
            correct(probability_BK.argmax(1), label_B),
            auc_B.astype(np.float64),
            class_log_loss(np.clip(probability_BK, 0.0, 1.0), label_B),
            np.ones(len(label_B), np.int64),
            "accuracy",
            scaled_loss_RS=np.array(scaled),
        )

    def evidence(self, bundle: Path, infra: InfraVerdict) -> Evidence:
        """See RankRound."""
        facts = replace(self._measured.facts, size_mb=folder_mb(bundle))
        return replace(self._measured, facts=facts, infra=infra)

    def model_facts(self) -> dict[str, object]:
        """What the manifest says of the model."""
        return {"text_width": self.learner.encoder.width, "labels": list(self.state.items)}
