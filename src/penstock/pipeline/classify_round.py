"""One round of the classification task: the same stages as a ranking round, over labelled texts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.errors import EmptyWindow, ExportError
from penstock.evaluation.gates import BundleFacts, RequestScores
from penstock.export.bundle import BundleWriter
from penstock.export.rank import classify_graph, text_graph
from penstock.features.examples import Labelled
from penstock.features.state import CausalState
from penstock.inference.engine import TextEngine
from penstock.inference.scorer import Scorer
from penstock.inference.sessions import Session
from penstock.metrics import class_log_loss, correct
from penstock.model.classifier import LOGIT_SCALE
from penstock.pipeline.measures import folder_mb, largest_difference, median_ms
from penstock.pipeline.stages import Stages
from penstock.settings import Settings
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

    def observe(self, events: pl.DataFrame) -> None:
        """A classifier keeps no counters."""

    def learn(self, events: pl.DataFrame) -> tuple[LearnReport, dict[str, float]]:
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
            scores = self._scores(self._champion_probability(older), older)
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
        self.challenger_scores = self._scores(probability_BK, self._held)
        self.champion_scores: RequestScores | None = None
        if self.champion is not None:
            self.champion_scores = self._scores(self._champion_probability(self._held), self._held)
        held = self._labelled(self._held)
        self._parity_error = self._parity(text_BT, probability_BK, held)
        self.carried.held_out = held
        self.metrics = {"held_out_accuracy": float(self.challenger_scores.primary.mean())}
        self._latency_ms = median_ms(lambda: head.run(text=text.encode(texts[:1])[0]))
        stages.done("held-out scores")

    def write_unjudged(self, writer: BundleWriter, cache: Path) -> float:
        """Export with nothing held out. Returns the parity error, measured on texts that were learned from."""
        text, head = self._write_graphs(writer, cache)
        kept = self.learner.reservoir.kept
        if not isinstance(kept, Labelled):
            raise ExportError("nothing was learned from, so parity cannot be measured; train first, with replay on")
        some = kept.take(slice(0, PARITY_TEXTS))
        text_BT = text.encode([self.learner.texts[row] for row in some.text_R.tolist()])[0]
        return self._parity(text_BT, head.run(text=text_BT)[0], some)

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

    def _parity(self, text_BT: NDArray[np.float32], probability_BK: NDArray[np.float32], held: Labelled) -> float:
        self.learner.refresh(np.unique(held.text_R))
        reference_BT = self.learner.text_NT[held.text_R].numpy()
        network = self.learner.task.classifier
        weight, bias = (value.detach().cpu().numpy() for value in (network.weight, network.bias))
        logit_BK = LOGIT_SCALE * (reference_BT @ weight) + bias
        shifted_BK = np.exp(logit_BK - logit_BK.max(1, keepdims=True))
        worst = max(
            largest_difference(text_BT, reference_BT),
            largest_difference(probability_BK, shifted_BK / shifted_BK.sum(1, keepdims=True)),
        )
        limit = self.settings.export.max_parity_error
        if not worst <= limit:
            raise ExportError(
                f"the exported graphs differ from torch by {worst:.2e}, at most {limit:g} is allowed "
                "(export.max_parity_error); the bundle is not kept"
            )
        return worst

    def _champion_probability(self, events: pl.DataFrame) -> NDArray[np.float32]:
        assert self.champion is not None
        own_BK = self.champion.classify(events["query"].to_list())
        place = {label: row for row, label in enumerate(self.champion.labels)}
        out_BK = np.full((len(events), len(self.state.items)), SMALLEST, np.float32)
        for column, label in enumerate(self.state.items):
            if label in place:
                out_BK[:, column] = own_BK[:, place[label]]
        return out_BK

    def _scores(self, probability_BK: NDArray[np.float32], events: pl.DataFrame) -> RequestScores:
        label_B = np.array([self.state.row_of[item] for item in events["item_id"].to_list()], np.int64)
        true_B1 = probability_BK[np.arange(len(label_B)), label_B][:, None]
        others = max(probability_BK.shape[1] - 1, 1)
        auc_B = ((probability_BK < true_B1).sum(1) + 0.5 * ((probability_BK == true_B1).sum(1) - 1)) / others
        return RequestScores(
            np.array(events["user_id"].to_list()),
            correct(probability_BK.argmax(1), label_B),
            auc_B.astype(np.float64),
            class_log_loss(np.clip(probability_BK, 0.0, 1.0), label_B),
            np.ones(len(label_B), np.int64),
            "accuracy",
        )

    def facts(self, folder: Path) -> BundleFacts:
        """Parity, latency and size of the finished bundle."""
        return BundleFacts(self._parity_error, self._latency_ms, folder_mb(folder))

    def model_facts(self) -> dict[str, object]:
        """What the manifest says of the model."""
        return {"text_width": self.learner.encoder.width, "labels": list(self.state.items)}
