"""What the service would show: how much of the catalogue, and how unlike one another the items of a list are.

Both are asked of the candidate sources and the ranking together, as the service does it, on a sample of the held-out
requests; a log's own lists would show what an older model chose.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from penstock.features.examples import Asked
from penstock.features.history import History
from penstock.features.state import CausalState
from penstock.inference.candidates import Allowed, find_candidates
from penstock.inference.engine import RankEngine
from penstock.inference.scorer import UserContext, one_request

DEPTH = 10


@dataclass(frozen=True)
class ListFigures:
    """Of the top ten lists of one model.

    Attributes:
        lists: how many were made; shown: different items in them; possible: the most that could be shown.
        coverage: shown / possible; diversity: mean share of a list's pairs that are of different categories, or mean
            cosine distance where the catalogue has no two categories; `unlike` says which.
    """

    lists: int
    shown: int
    possible: int
    coverage: float
    diversity: float
    unlike: str


@dataclass
class ListMaker:
    """Makes the lists of one model while the state moves along; see the module. Reads as candidates.Retrieving."""

    state: CausalState
    engine: RankEngine
    candidates: int
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    _asked: Asked | None = None

    def history_of(self, user: UserContext) -> History:
        """The past of the request that is being asked."""
        assert self._asked is not None
        return self._asked.history

    def user_vector(self, history: History, at_s: float) -> NDArray[np.float32]:
        """The user's vector [E]."""
        return self.engine.user_vector(history, self.state.spec.history_length, at_s)

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the nearest items, best first."""
        return self.engine.nearest(vector_E, count)

    def ask(self, asked: Asked) -> None:
        """Make the list of one request as the state stands now."""
        self._asked = asked
        state, at_s = self.state, asked.at_s
        user = UserContext(user_id=asked.request["user_id"])
        at = datetime.fromtimestamp(at_s, UTC)
        row_C = find_candidates(self, user, at, self.candidates, Allowed(state, at_s)).row_C
        if not len(row_C):
            self.rows.append(row_C)
            return
        feature_CF = state.features(asked.history, row_C, at_s, asked.frozen_NF)
        score_C = self.engine.scores(one_request(state, asked.history, row_C, feature_CF, at_s))[0]
        self.rows.append(row_C[np.argsort(-score_C, kind="stable")[:DEPTH]])

    def figures(self, vector_NE: NDArray[np.float32]) -> ListFigures:
        """Coverage and diversity of the lists made so far; `vector_NE`: one measure of likeness for all models."""
        named = [code for name, code in self.state.categories.items() if name]
        by_category = len(np.intersect1d(named, self.state.category_N)) > 1
        shown = len(np.unique(np.concatenate(self.rows))) if self.rows else 0
        possible = min(len(self.state.items), DEPTH * len(self.rows))
        unlike = [self._unlike(row_K, vector_NE, by_category) for row_K in self.rows if len(row_K) > 1]
        return ListFigures(
            len(self.rows),
            shown,
            possible,
            shown / possible if possible else float("nan"),
            float(np.mean(unlike)) if unlike else float("nan"),
            "pairs of different categories" if by_category else "cosine distance of pairs",
        )

    def _unlike(self, row_K: NDArray[np.int64], vector_NE: NDArray[np.float32], by_category: bool) -> float:
        upper = np.triu_indices(len(row_K), 1)
        if by_category:
            category_K = self.state.category_N[row_K]
            return float((category_K[:, None] != category_K[None, :])[upper].mean())
        vector_KE = vector_NE[row_K].astype(np.float64)
        unit_KE = vector_KE / np.maximum(np.linalg.norm(vector_KE, axis=1, keepdims=True), 1e-9)
        return float(1 - (unit_KE @ unit_KE.T)[upper].mean())
