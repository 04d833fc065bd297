"""How much of what users went for the service's candidate sources would have found, source by source."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.features.examples import Asked
from penstock.features.history import History
from penstock.features.state import CausalState
from penstock.inference.candidates import AGAIN, FRESH, POPULAR, TASTE, TOGETHER, in_turns, source_lists
from penstock.inference.engine import RankEngine
from penstock.inference.scorer import UserContext

UNION = "union"
LABELS = {
    TASTE: "semantic",
    TOGETHER: "co-occurrence",
    POPULAR: "trending",
    FRESH: "fresh",
    AGAIN: "repeats",
    UNION: "union",
}


@dataclass
class _Track:
    """A backtest's state and engine as the candidate sources read them."""

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


class RecallProbe:
    """Recall at `count` of each source and of their union, on the sampled requests of a track.

    Candidates are the items on offer at the request, less what the user had where repeats do not count; counters stand
    as at the window's start. A source that does not apply to a request (a stranger has no repeats) recalls 0.

    Attributes:
        found: by request number (as text), the recall of each source by its label.
    """

    def __init__(self, sampled: set[int], count: int, repeats: bool) -> None:
        self.sampled, self.count, self.repeats = sampled, count, repeats
        self.found: dict[str, dict[str, float]] = {}

    def ask(self, number: int, asked: Asked, state: CausalState, engine: RankEngine) -> None:
        """Measure the request if it is in the sample."""
        if number not in self.sampled:
            return
        allowed_N = np.zeros(len(state.items), bool)
        allowed_N[state.offered(asked.at_s)] = True
        if not self.repeats:
            allowed_N[asked.history.row_L] = False
        lists = source_lists(_Track(state, engine), asked.history, asked.at_s, self.count)
        taken: dict[str, Any] = {name: rows[allowed_N[rows]] for name, rows in lists.items()}
        taken[UNION] = [row for row, _ in in_turns(lists, allowed_N, self.count)]
        wanted = {state.row_of[item] for item in asked.request["relevant"] if item in state.row_of}
        size = len(asked.request["relevant"])
        self.found[str(number)] = {
            label: len(wanted & {int(row) for row in taken.get(source, ())}) / size for source, label in LABELS.items()
        }
