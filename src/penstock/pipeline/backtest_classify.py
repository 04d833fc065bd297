"""`penstock backtest` over labelled texts: each window is labelled first and learned from after.

`never` keeps the model of the first window, which nobody scores; the commonest label so far is the floor. Text vectors
come from torch, labels from the exported graph, as in the service.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.dataset import Dataset, read_dataset
from penstock.data.tables import replace_file
from penstock.errors import EmptyWindow
from penstock.evaluation.comparison import Bootstrap
from penstock.evaluation.label_report import Guesses, summarise_labels, write_label_report
from penstock.export.rank import classify_graph
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.sessions import Session
from penstock.pipeline.classify_round import ClassifyRound
from penstock.settings import Settings
from penstock.training.checkpoint import Carried
from penstock.training.learner import Learner

Progress = Callable[[str, int, int], None]
FLOOR = "commonest label"


@dataclass
class Clock:
    """Wall and processor seconds spent inside `with`."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> "Clock":
        self._began = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *error: object) -> None:
        self.wall_s += time.perf_counter() - self._began[0]
        self.cpu_s += time.process_time() - self._began[1]


class LabelBacktest:
    """A learner over one stream of labelled texts, oldest first. N texts, K labels."""

    def __init__(self, dataset: Dataset, settings: Settings, windows: int | None) -> None:
        self.settings = settings.override({"task": "classify"})
        labelled = (pl.col("kind") == "label") & pl.col("query").is_not_null()
        self.events = dataset.events.filter(labelled).sort("at", "event_id")
        size = -(-len(self.events) // windows) if windows else settings.backtest.window_texts
        if len(self.events) <= size:
            raise EmptyWindow(
                f"{dataset.meta.name}: {len(self.events)} labelled texts, and the first window alone takes {size}; two "
                "windows are needed, so bring more texts or ask for more windows (backtest.window_texts)"
            )
        self.parts = [self.events[start : start + size] for start in range(0, len(self.events), size)]
        spec = FeatureSpec.of(self.settings)
        state, self.learner = CausalState(spec), Learner(self.settings, spec)
        self.round = ClassifyRound(self.settings, self.learner, state, dataset.catalogue, None, Carried())
        self.round.take_in()
        self.labels: list[str] = list(state.items)
        self.cache = settings.state.home / "graphs"
        self.encoding, self.scoring, self.first, self.later = Clock(), Clock(), Clock(), Clock()

    def learn(self, events: pl.DataFrame, clock: Clock) -> Session:
        """Learn a window; the exported label layer."""
        with clock:
            self.round.learn_all(events)
            graph = classify_graph(self.learner.task.classifier, self.settings, self.learner.encoder.width, self.cache)
            return Session(graph)

    def guesses(self, head: Session, events: pl.DataFrame) -> NDArray[np.float32]:
        """Probabilities [N, K] of a window."""
        with self.encoding:
            text_NT = self.learner.cache.vectors(events["query"].to_list()).numpy()
        with self.scoring:
            return head.run(text=text_NT)[0]

    def run(self, progress: Progress) -> dict[str, NDArray[np.float32]]:
        """Every method's probabilities [N, K] for the texts of all windows but the first."""
        first, *stream = self.parts
        head = self.learn(first, self.first)
        # `never` answers before anything more is learned, so that it needs no second learner.
        never = [self.guesses(head, window) for window in stream]
        fresh, shares = [], []
        count_K = self._counts(first)
        for number, window in enumerate(stream, start=1):
            fresh.append(self.guesses(head, window))
            shares.append(np.tile(count_K / count_K.sum(), (len(window), 1)).astype(np.float32))
            count_K += self._counts(window)
            if number < len(stream):  # what the last window would teach is never asked
                head = self.learn(window, self.later)
            progress("windows", number, len(stream))
        return {"fresh": np.concatenate(fresh), "never": np.concatenate(never), FLOOR: np.concatenate(shares)}

    def _counts(self, window: pl.DataFrame) -> NDArray[np.float64]:
        return np.bincount(self.label_rows(window), minlength=len(self.labels)).astype(np.float64)

    def label_rows(self, events: pl.DataFrame) -> NDArray[np.int64]:
        """The true labels, int64 [N]."""
        row = self.round.state.row_of
        return np.array([row[label] for label in events["item_id"].to_list()], np.int64)


def run_label_backtest(
    folder: Path, out: Path, settings: Settings, windows: int | None, progress: Progress
) -> dict[str, Any]:
    """Replay the labelled texts of `folder`; write predictions.parquet, summary.json and report.html into `out`.

    Args:
        windows: into how many windows of equal size the texts are cut; None: backtest.window_texts at a time.
        progress: called with (what, done, all).

    Raises:
        DataError: the dataset cannot be read.
        EmptyWindow: fewer than two windows.
    """
    started = time.perf_counter()
    dataset = read_dataset(folder)
    backtest = LabelBacktest(dataset, settings, windows)
    probability = backtest.run(progress)
    scored = pl.concat(backtest.parts[1:])
    sizes = [len(part) for part in backtest.parts[1:]]
    guesses = Guesses(
        probability,
        backtest.label_rows(scored),
        np.repeat(np.arange(1, len(sizes) + 1), sizes),
        [part["at"][0].isoformat() for part in backtest.parts[1:]],
        backtest.labels,
    )
    gates = settings.gates
    summary = summarise_labels(guesses, Bootstrap(gates.bootstrap_resamples, settings.seed, gates.confidence))
    summary["protocol"] = {
        "data": dataset.meta.name,
        "source": dataset.meta.source,
        "texts": len(backtest.events),
        "labels": len(backtest.labels),
        "texts_a_window": len(backtest.parts[0]),
        "windows_scored": len(sizes),
        "tuning": settings.text.tuning,
        "seed": settings.seed,
    }
    first, later = backtest.first, backtest.later
    summary["compute_s"] = {"fresh": first.wall_s + later.wall_s, "never": first.wall_s}
    summary["measured"] = {
        "fresh_cpu_s": first.cpu_s + later.cpu_s,
        "encode_s": backtest.encoding.wall_s,
        "score_s": backtest.scoring.wall_s,
        "total_s": time.perf_counter() - started,
    }
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "predictions.parquet", _predictions(scored, guesses).write_parquet)
    write_label_report(out, summary)
    return summary


def _predictions(scored: pl.DataFrame, guesses: Guesses) -> pl.DataFrame:
    """One row per scored text: event_id, at, window, label, and each method's guess and its probability."""
    label = np.array(guesses.labels)
    columns: dict[str, Any] = {"window": guesses.window_N, "label": label[guesses.label_N]}
    for name, value_NK in guesses.probability.items():
        columns[name] = label[value_NK.argmax(1)]
        columns[f"{name} probability"] = value_NK.max(1)
    return scored.select("event_id", "at").with_columns(**{key: pl.Series(value) for key, value in columns.items()})
