"""A bundle in memory, answering: rank, classify, similar, and taking in events as they come."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.errors import BundleError, DataError
from penstock.features.examples import Examples, past_arrays
from penstock.features.history import History
from penstock.features.pool import best_rows
from penstock.features.state import CausalState, seconds
from penstock.features.tensors import read_tensors
from penstock.inference.bundle import ROUNDED, Bundle, load_bundle
from penstock.inference.engine import RankEngine, TextEngine
from penstock.inference.index import VectorIndex
from penstock.inference.sessions import Session
from penstock.text import item_texts

LISTED = 2_000


@dataclass(frozen=True)
class UserContext:
    """Who is asking: a known user, or a history given with the request; `query` is free text."""

    user_id: str | None = None
    history: tuple[tuple[str, str, datetime], ...] | None = None
    query: str | None = None


@dataclass(frozen=True)
class Scored:
    """One ranked item; `parts`: the features that stand out, by name; `source`: where the candidate came from."""

    item_id: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class RowScores:
    """Scores [C] of rows [C], and their features [C, F] by `names`."""

    row_C: NDArray[np.int64]
    score_C: NDArray[np.float32]
    feature_CF: NDArray[np.float32]
    names: tuple[str, ...]

    def standing_out(self, place_K: NDArray[np.int64]) -> list[dict[str, float]]:
        """For each place, the three features in which it is furthest above the others, in deviations."""
        mean_F = np.add.reduce(self.feature_CF, 0) / len(self.feature_CF)
        centred_CF = self.feature_CF - mean_F
        deviation_F = np.sqrt(np.einsum("cf,cf->f", centred_CF, centred_CF) / len(centred_CF))
        lift_KF = centred_CF[place_K] / np.maximum(deviation_F, 1e-6)
        best_K3 = np.argsort(-lift_KF, axis=1, kind="stable")[:, :3].tolist()
        lifts = lift_KF.tolist()
        return [
            {self.names[index]: round(lift[index], 2) for index in best if lift[index] > 0.5}
            for lift, best in zip(lifts, best_K3, strict=True)
        ]


class Scorer:
    """See the module. Not thread-safe for `observe` beside `rank`: the caller holds a lock."""

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        folder = bundle.folder
        self.bundle, self.digest, self.task = bundle, bundle.digest, bundle.task
        self.text = TextEngine(folder / "text.onnx", (folder / "tokenizer.json").read_text(encoding="utf-8"), device)
        self.items = pl.read_parquet(folder / "items.parquet")
        self.labels: list[str] = list(bundle.manifest["model"].get("labels", []))
        self.learned_until: str = bundle.manifest["lineage"]["learned_until"]
        if self.task == "classify":
            self.head = Session(folder / "classify.onnx", device)
            return
        self.state = CausalState.load(folder / "state")
        vector_NE = read_tensors(folder / "vectors.safetensors")["vector"]
        if len(vector_NE) != len(self.state.items):
            raise BundleError(f"{folder}: {len(vector_NE)} item vectors for {len(self.state.items)} items")
        if not np.isfinite(vector_NE).all():
            raise BundleError(f"{folder}: item vectors hold numbers that are not finite; export the version again")
        text_width = int(bundle.manifest["model"]["text_width"])
        self.engine = RankEngine(folder / "user.onnx", folder / "rank.onnx", vector_NE, text_width, device, threads=1)
        self._unit_NE = _unit(vector_NE)
        rounded = Session(folder / ROUNDED, "cpu", threads=1) if (folder / ROUNDED).exists() else None
        self._index = VectorIndex(vector_NE, rounded)
        self.categories = _listed(self.items["category"].fill_null(""))
        self.titles = _listed(self.items["title"])

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> "Scorer":
        """Verify the bundle in `folder` and bring it up.

        Raises:
            BundleError: it is not whole, or what its manifest vouches for is not what a bundle holds.
        """
        bundle = load_bundle(folder)
        try:
            return cls(bundle, device)
        except (pl.exceptions.PolarsError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{folder}: the files are as the manifest says, but cannot be brought up: {error!r}; export it again"
            ) from error

    def observe(self, events: pl.DataFrame) -> None:
        """Take events into counters and histories at once; columns as records.EVENT_COLUMNS."""
        if self.task == "rank":
            self.state.observe(events)

    def encode_items(self, catalogue: pl.DataFrame) -> NDArray[np.float32]:
        """Item vectors [B, E] from their text alone; needs no lock."""
        if catalogue.is_empty():
            return np.zeros((0, self.engine.vector_NE.shape[1]), np.float32)
        return self.text.encode(item_texts(catalogue))[1]

    def add_items(self, catalogue: pl.DataFrame, vector_BE: NDArray[np.float32] | None = None) -> int:
        """Make new items recommendable, from their text alone. Returns how many were new.

        Args:
            vector_BE: what `encode_items` made of `catalogue`; made here when None.
        """
        new_B = np.array([item not in self.state.row_of for item in catalogue["item_id"].to_list()], bool)
        if not new_B.any():
            return 0
        fresh = catalogue.filter(pl.Series(new_B))
        vector_FE = self.encode_items(fresh) if vector_BE is None else vector_BE[new_B]
        self.state.add_items(fresh)
        self.engine.vector_NE = np.concatenate([self.engine.vector_NE, vector_FE])
        self._unit_NE = np.concatenate([self._unit_NE, _unit(vector_FE)])
        self._index.replace(self.engine.vector_NE)
        self.items = pl.concat([self.items, fresh.select(self.items.columns)])
        self.categories += [name or "" for name in fresh["category"].to_list()]
        self.titles += fresh["title"].to_list()
        return len(fresh)

    def directions(self, row_C: NDArray[np.int64]) -> NDArray[np.float32]:
        """Item vectors of unit length [C, E]."""
        return self._unit_NE[row_C]

    def history_of(self, user: UserContext) -> History:
        """The past that the request is judged by, oldest first."""
        if user.history is None:
            return self.state.histories.of(user.user_id or "")
        kinds = {kind: index for index, kind in enumerate(self.state.spec.kinds)}
        known = [row for row in user.history if row[0] in self.state.row_of]
        known.sort(key=lambda row: row[2])
        return History(
            np.array([self.state.row_of[item] for item, _, _ in known], np.int64),
            np.array([kinds.get(kind, 0) for _, kind, _ in known], np.int64),
            np.array([seconds(at) for _, _, at in known], np.float64),
        )

    def rank(
        self, user: UserContext, candidates: list[str] | None, at: datetime, k: int, explain: bool = True
    ) -> list[Scored]:
        """The best `k` of `candidates` (every item when None) for `user` at `at`, best first.

        Raises:
            DataError: a candidate is not in the catalogue.
        """
        row_C = self._rows(candidates)
        if not len(row_C):
            return []
        scored = self.score(user, row_C, at)
        best = np.argsort(-scored.score_C, kind="stable")[:k]
        parts = scored.standing_out(best) if explain else [{} for _ in best]
        return [
            Scored(self.state.items[row_C[place]], float(scored.score_C[place]), part)
            for place, part in zip(best, parts, strict=True)
        ]

    def score(
        self,
        user: UserContext,
        row_C: NDArray[np.int64],
        at: datetime,
        user_E: NDArray[np.float32] | None = None,
        feature_CF: NDArray[np.float32] | None = None,
    ) -> RowScores:
        """Scores of distinct rows for `user` at `at`, and the features that they come from.

        Args:
            user_E: the user's vector without a query, where it is known already.
            feature_CF: features to score by instead of what the counters say.
        """
        history, at_s = self.history_of(user), seconds(at)
        if feature_CF is None:
            feature_CF = self.state.features(history, row_C, at_s)
        past = past_arrays(history, self.state.spec.history_length, at_s)
        if user_E is None or user.query:
            asked = self.text.encode([user.query])[0] if user.query else None
            row_L, kind_L, age_L, mask_L = past
            user_E = self.engine.user_vectors(row_L[None], kind_L[None], age_L[None], mask_L[None], asked)[0]
        score_C = self.engine.score(user_E, past, row_C, feature_CF)
        return RowScores(row_C, score_C, feature_CF, self.state.spec.names)

    def describe(self, row: int) -> dict[str, Any]:
        """item_id, title and category of one item."""
        return {"item_id": self.state.items[row], "title": self.titles[row], "category": self.categories[row] or None}

    def user_vector(self, history: History, at_s: float) -> NDArray[np.float32]:
        """The user's vector [E]."""
        return self.engine.user_vector(history, self.state.spec.history_length, at_s)

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items with the largest dot product, best first; nearly all of them, see index."""
        return self._index.nearest(vector_E, count)

    def similar(self, item_id: str, k: int) -> list[tuple[str, float]]:
        """The `k` items closest to `item_id` by cosine, itself left out.

        Raises:
            DataError: no such item.
        """
        row = int(self._rows([item_id])[0])
        cosine_N = self._unit_NE @ self._unit_NE[row]
        cosine_N[row] = -np.inf
        best = best_rows(cosine_N, min(k, len(cosine_N) - 1))
        return [(self.state.items[index], float(cosine_N[index])) for index in best]

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Text vectors [B, T] of unit norm."""
        return self.text.encode(texts)[0]

    def classify(self, texts: list[str]) -> NDArray[np.float32]:
        """Probabilities [B, K] over `labels`."""
        return self.head.run(text=self.encode(texts))[0]

    def _rows(self, items: list[str] | None) -> NDArray[np.int64]:
        if items is None:
            return np.arange(len(self.state.items))
        unknown = [item for item in items if item not in self.state.row_of]
        if unknown:
            raise DataError(f"unknown item {unknown[0]!r} ({len(unknown)} in all); the catalogue has no such item_id")
        return np.array([self.state.row_of[item] for item in items], np.int64)


def one_request(
    state: CausalState, history: History, row_C: NDArray[np.int64], feature_CF: NDArray[np.float32], at_s: float
) -> Examples:
    """One request as the engine takes it."""
    count = len(row_C)
    past: Any = (values[None] for values in past_arrays(history, state.spec.history_length, at_s))
    zeros = np.zeros((1, count), np.float32)
    return Examples(
        row_C[None],
        feature_CF[None],
        zeros,
        zeros,
        np.full((1, count), -1, np.int64),
        np.ones((1, count), bool),
        *past,
    )


def _unit(vector_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    length_N1 = np.linalg.norm(vector_NE, axis=1, keepdims=True)
    return np.asarray(vector_NE / np.maximum(length_N1, 1e-9), np.float32)


def _listed(column: pl.Series) -> list[str]:
    """The column as a list, made in steps between which other threads may answer."""
    return [text for start in range(0, len(column), LISTED) for text in column[start : start + LISTED].to_list()]
