"""What the candidate sources would have offered for a logged request, and what came of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.features.examples import Asked
from penstock.features.history import History
from penstock.features.state import CausalState
from penstock.inference.candidates import Allowed, source_lists
from penstock.inference.engine import RankEngine
from penstock.inference.scorer import UserContext


@dataclass
class Track:
    """A state and an engine as the candidate sources read them."""

    state: CausalState
    engine: RankEngine

    def history_of(self, user: UserContext) -> History:
        """The past of a user as it stands."""
        return self.state.histories.of(user.user_id or "")

    def user_vector(self, history: History, at_s: float) -> NDArray[np.float32]:
        """The user's vector [E]."""
        return self.engine.user_vector(history, self.state.spec.history_length, at_s)

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the nearest items."""
        return self.engine.nearest(vector_E, count)


def offered(
    state: CausalState, engine: RankEngine, asked: Asked, count: int, repeats: bool
) -> tuple[dict[str, NDArray[np.int64]], set[int]]:
    """Each source's allowed list of at most `count` rows, and the rows of the items that the user went for."""
    allowed = Allowed(state, asked.at_s, None if repeats else asked.history.row_L)
    lists = source_lists(Track(state, engine), asked.history, asked.at_s, count, allowed)
    return lists, {state.row_of[item] for item in asked.request["relevant"] if item in state.row_of}


@dataclass
class YieldProbe:
    """Counts on logged requests, before they are learned from, what each source is worth; see features.yields."""

    state: CausalState
    engine: RankEngine
    count: int

    def ask(self, asked: Asked) -> None:
        """Count one request."""
        lists, wanted = offered(self.state, self.engine, asked, self.count, self.state.spec.repeats)
        self.state.yields.observe(lists, wanted)
