"""How much of what users went for the service's candidate sources would have found, source by source."""

import numpy as np

from penstock.features.examples import Asked
from penstock.features.state import CausalState
from penstock.features.yields import Yields
from penstock.inference.candidates import AGAIN, FRESH, POPULAR, TASTE, TOGETHER, merged
from penstock.inference.engine import RankEngine
from penstock.pipeline.source_probe import offered

UNION = "union"
NOTHING = np.zeros(0, np.int64)
LABELS = {
    TASTE: "semantic",
    TOGETHER: "co-occurrence",
    POPULAR: "trending",
    FRESH: "fresh",
    AGAIN: "repeats",
    UNION: "union",
}


class RecallProbe:
    """Recall at `count` of each source and of their union, on the sampled requests of a track.

    Candidates are the items on offer at the request, less what the user had where repeats do not count; counters stand
    as at the window's start. The union is merged by what the sources yielded on the sampled requests before. A source
    that does not apply to a request (a stranger has no repeats) recalls 0.

    Attributes:
        found: by request number (as text), the recall of each source by its label.
    """

    def __init__(self, sampled: set[int], count: int, repeats: bool) -> None:
        self.sampled, self.count, self.repeats = sampled, count, repeats
        self.found: dict[str, dict[str, float]] = {}
        self.yields = Yields()

    def ask(self, number: int, asked: Asked, state: CausalState, engine: RankEngine) -> None:
        """Measure the request if it is in the sample."""
        if number not in self.sampled:
            return
        taken, wanted = offered(state, engine, asked, self.count, self.repeats)
        union = merged(taken, self.count, self.yields).row_C
        self.yields.observe(taken, wanted)
        size = len(asked.request["relevant"])
        self.found[str(number)] = {
            label: len(wanted & set((union if source == UNION else taken.get(source, NOTHING)).tolist())) / size
            for source, label in LABELS.items()
        }
