"""Prequential scoring: every request of a window is ranked by a model that has not seen the window yet.

R requests, C candidates, F features, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.errors import EmptyWindow, SettingsError
from penstock.evaluation.calibration import scaled_losses
from penstock.evaluation.evidence import RequestScores
from penstock.features.examples import Asked, Examples, past_arrays
from penstock.features.state import CausalState
from penstock.metrics import hit_rate_at, mrr_at, ndcg_at, recall_at

DEPTH = 100
CELLS_HELD = 60_000
UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Window:
    """A stretch of the stream: [start, end), the last one closed."""

    index: int
    start_s: float
    end_s: float
    events: pl.DataFrame


def cadence_seconds(text: str) -> float:
    """Seconds in "15m", "1h", "1d".

    Raises:
        SettingsError: not a number followed by m, h or d.
    """
    try:
        value = float(text[:-1]) * UNITS_S[text[-1]]
    except (KeyError, ValueError, IndexError) as error:
        raise SettingsError(f"cadence {text!r}: expected a number and m, h or d (15m, 1h, 1d), or never") from error
    if value <= 0:
        raise SettingsError(f"cadence {text!r}: expected more than zero")
    return value


def split_stream(events: pl.DataFrame, warmup: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first `warmup` share of the events, in stable time order, and the rest.

    Raises:
        EmptyWindow: one of the two would be empty.
    """
    ordered = events.sort("at", maintain_order=True)
    cut = int(len(ordered) * warmup)
    if not 0 < cut < len(ordered):
        raise EmptyWindow(f"{len(ordered)} events with warmup {warmup}: nothing to learn from or nothing to score")
    return ordered[:cut], ordered[cut:]


def equal_windows(stream: pl.DataFrame, count: int | None = None, length_s: float | None = None) -> list[Window]:
    """The stream, in time order, cut into `count` windows of equal duration, or into windows of `length_s` seconds."""
    at_s = stream["at"].dt.timestamp("us").to_numpy() / 1e6
    first, last = float(at_s[0]), float(at_s[-1])
    if length_s is not None:
        count = max(1, int(np.ceil((last - first) / length_s + 1e-9)))
        edges = first + length_s * np.arange(count + 1)
    else:
        assert count is not None
        edges = np.linspace(first, last, count + 1)
    place_E = np.clip(np.searchsorted(edges, at_s, side="right") - 1, 0, count - 1)
    # Slices, not copies: a quarter of an hour cuts a year into 35,000 windows.
    cut = np.searchsorted(place_E, np.arange(count + 1))
    return [
        Window(index, float(edges[index]), float(edges[index + 1]), stream[int(cut[index]) : int(cut[index + 1])])
        for index in range(count)
    ]


@dataclass
class RankedRequests:
    """What a model ranked, and how well; one entry per scored request.

    `scaled_loss`: log loss of rescaled scores, kept where the gates ask for it by an empty list; None: not measured.
    """

    request_id: list[int] = field(default_factory=list)
    user: list[str] = field(default_factory=list)
    items: list[list[str]] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)
    mrr: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    log_loss: list[float] = field(default_factory=list)
    n_relevant: list[int] = field(default_factory=list)
    earlier_events: list[int] = field(default_factory=list)
    n_candidates: list[int] = field(default_factory=list)
    scaled_loss: list[NDArray[np.float64]] | None = None

    def add(self, request_id: int, asked: Asked, ranked: list[str], quality: tuple[float, float, int]) -> None:
        """Take one ranking, best first; `quality`: its AUC, its log loss, and how many candidates it had."""
        relevant = set(asked.request["relevant"])
        auc, loss, n_candidates = quality
        self.n_candidates.append(n_candidates)
        rank_F = np.array([place for place, item in enumerate(ranked, 1) if item in relevant], np.int64)
        request_F, count_R = np.zeros(len(rank_F), np.int64), np.array([len(relevant)])
        self.request_id.append(request_id)
        self.user.append(asked.request["user_id"])
        self.items.append(ranked[:DEPTH])
        self.ndcg.append(float(ndcg_at(request_F, rank_F, count_R, 10)[0]))
        self.hit.append(float(hit_rate_at(request_F, rank_F, count_R, 10)[0]))
        self.mrr.append(float(mrr_at(request_F, rank_F, count_R, DEPTH)[0]))
        self.recall.append(float(recall_at(request_F, rank_F, count_R, DEPTH)[0]))
        self.auc.append(auc)
        self.log_loss.append(loss)
        self.n_relevant.append(len(relevant))
        self.earlier_events.append(len(asked.history))

    def means(self) -> dict[str, float]:
        """Means over requests."""
        columns = {"ndcg": self.ndcg, "hr": self.hit, "mrr": self.mrr, "recall": self.recall}
        out = {name: float(np.mean(values)) if values else float("nan") for name, values in columns.items()}
        auc = [value for value in self.auc if value == value]
        return out | {"auc": float(np.mean(auc)) if auc else float("nan"), "requests": float(len(self.ndcg))}

    def scores(self) -> RequestScores:
        """As the gates take them."""
        return RequestScores(
            np.array(self.user),
            np.array(self.ndcg),
            np.array(self.auc),
            np.array(self.log_loss),
            np.array(self.n_relevant),
            n_candidates=np.array(self.n_candidates),
            scaled_loss_RS=None if self.scaled_loss is None else np.array(self.scaled_loss),
        )


Candidates = Callable[[Asked], NDArray[np.int64]]


class Scoring(Protocol):
    """What ranks: the exported graphs, or anything that scores a batch."""

    def scores(self, batch: Examples) -> NDArray[np.float32]:
        """Scores [R, C], higher is better."""
        ...


class Ranker:
    """Collects asked requests and ranks them a batch at a time through the exported graphs.

    Args:
        candidates: rows to rank for a request; None: what was shown.
    """

    def __init__(self, state: CausalState, engine: Scoring, out: RankedRequests, candidates: Candidates | None) -> None:
        self.state, self.engine, self.out, self.candidates = state, engine, out, candidates
        self._held: list[tuple[int, Asked, Any]] = []
        self._cells = 0

    def ask(self, request_id: int, asked: Asked) -> None:
        """Take a request as the state stands now; it is ranked by the time `finish` returns."""
        row_C = self._rows(asked)
        feature_CF = self.state.features(asked.history, row_C, asked.at_s, asked.frozen_NF)
        past = past_arrays(asked.history, self.state.spec.history_length, asked.at_s)
        self._held.append((request_id, asked, (row_C, feature_CF, past)))
        self._cells += len(row_C)
        if self._cells >= CELLS_HELD:
            self.finish()

    def _rows(self, asked: Asked) -> NDArray[np.int64]:
        if self.candidates is not None and not asked.request["shown"]:
            return self.candidates(asked)
        known = [self.state.row_of[item] for item in asked.request["shown"] if item in self.state.row_of]
        return np.array(known, np.int64)

    def finish(self) -> None:
        """Rank what is held."""
        if not self._held:
            return
        batch = _batch([parts for _, _, parts in self._held])
        score_RC = self.engine.scores(batch)
        for (request_id, asked, (row_C, _, _)), padded_C in zip(self._held, score_RC, strict=True):
            score_C = padded_C[: len(row_C)]
            take_ranking(self.out, self.state, (request_id, asked), row_C, score_C)
        self._held, self._cells = [], 0


def take_ranking(
    out: RankedRequests,
    state: CausalState,
    found: tuple[int, Asked],
    row_C: NDArray[np.int64],
    score_C: NDArray[np.floating],
) -> None:
    """Add one request's ranking to `out`: `found` is its number and the request, scores of its candidate rows."""
    number, asked = found
    relevant, items = set(asked.request["relevant"]), state.items
    best = np.argsort(-score_C, kind="stable")[:DEPTH] if len(score_C) <= DEPTH else _top(score_C, DEPTH)
    is_relevant_C = np.array([items[row] in relevant for row in row_C.tolist()], bool)
    auc, loss = _auc(is_relevant_C, score_C), _softmax_loss(is_relevant_C, score_C)
    missed = len(relevant) - int(is_relevant_C.sum())
    auc = auc * (1 - missed / len(relevant)) if auc == auc else (0.0 if missed else auc)
    ranked = [items[row_C[place]] for place in best]
    if out.scaled_loss is not None:
        out.scaled_loss.append(scaled_losses(is_relevant_C, score_C))
    out.add(number, asked, ranked, (auc, loss, len(row_C) + missed))


def _top(score_C: NDArray[np.floating], depth: int) -> NDArray[np.int64]:
    some = np.argpartition(-score_C, depth - 1)[:depth]
    return np.asarray(some[np.argsort(-score_C[some], kind="stable")])


def _auc(is_relevant_C: NDArray[np.bool_], score_C: NDArray[np.floating]) -> float:
    positive, negative = score_C[is_relevant_C], np.sort(score_C[~is_relevant_C])
    if not len(positive) or not len(negative):
        return float("nan")
    below, through = np.searchsorted(negative, positive, "left"), np.searchsorted(negative, positive, "right")
    return float(((below + through) / 2).mean() / len(negative))


def _softmax_loss(is_relevant_C: NDArray[np.bool_], score_C: NDArray[np.floating]) -> float:
    """Mean over the relevant of minus log softmax (nats); the chance level where none of them is a candidate."""
    if not len(score_C):
        return 0.0
    if not is_relevant_C.any():
        return float(np.log(len(score_C)))
    top = float(score_C.max())
    total = top + float(np.log(np.exp(score_C.astype(np.float64) - top).sum()))
    return float(total - score_C[is_relevant_C].mean())


def _batch(parts: list[Any]) -> Examples:
    count, width = len(parts), max(max(len(row_C) for row_C, _, _ in parts), 1)
    n_features, length = parts[0][1].shape[1], len(parts[0][2][0])
    row_RC, mask_RC = np.zeros((count, width), np.int64), np.zeros((count, width), bool)
    feature_RCF = np.zeros((count, width, n_features), np.float32)
    for index, (row_C, feature_CF, _) in enumerate(parts):
        row_RC[index, : len(row_C)], mask_RC[index, : len(row_C)] = row_C, True
        feature_RCF[index, : len(row_C)] = feature_CF
    pasts = [np.stack([past[column] for _, _, past in parts]) for column in range(4)]
    zeros = np.zeros((count, width), np.float32)
    assert pasts[0].shape == (count, length)
    return Examples(row_RC, feature_RCF, zeros, zeros, np.full((count, width), -1, np.int64), mask_RC, *pasts)


def sample_requests(requests: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """At most `limit` requests that led to something, in time order; a seeded sample where there are more."""
    useful = requests.filter(pl.col("relevant").list.len() > 0)
    if len(useful) <= limit:
        return useful
    return useful.sample(limit, seed=seed).sort("at", "request_id")
