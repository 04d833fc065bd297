"""What the gates are judged on: figures of challenger and champion on the same held-out requests, and of the bundle.

R requests, S slopes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError
from penstock.evaluation.infra import InfraVerdict
from penstock.evaluation.top_lists import ListFigures
from penstock.metrics import Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RequestScores:
    """How one model did on each held-out request, R requests in one order for every model compared.

    user: user id of each request; primary: `primary_name` of each; auc, log_loss: of each; n_relevant: its
    relevant items; n_candidates: its scored candidates, where known; scaled_loss_RS: log loss at each of
    `calibration.SLOPES`, where measured. A request without a relevant item is measured by log loss alone, one with
    nothing but relevant candidates not by AUC; everything else must be finite.
    """

    user: npt.NDArray[Any]
    primary: Floats
    auc: Floats
    log_loss: Floats
    n_relevant: Ints
    primary_name: Literal["ndcg@10", "accuracy"] = "ndcg@10"
    n_candidates: Ints | None = None
    scaled_loss_RS: Floats | None = None

    def __post_init__(self) -> None:
        columns = [self.user, self.primary, self.auc, self.log_loss, self.n_relevant]
        columns += [] if self.n_candidates is None else [self.n_candidates]
        shapes = {np.shape(column) for column in columns}
        shapes |= set() if self.scaled_loss_RS is None else {np.shape(self.scaled_loss_RS)[:1]}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise GateError(f"request scores: columns of shapes {sorted(shapes)}; expected one value per request")

    def measured(self, metric: str) -> Bools:
        """bool [R], True where the request counts for `metric` (primary, auc or log_loss)."""
        if metric == "log_loss":
            return np.ones(len(self.user), bool)
        counts_R = np.asarray(self.n_relevant) > 0
        if metric == "auc" and self.n_candidates is not None:
            counts_R &= np.asarray(self.n_relevant) < np.asarray(self.n_candidates)
        return counts_R


@dataclass(frozen=True)
class BundleFacts:
    """Measured on the exported bundle: largest score difference to torch, median ms a request, MiB on disk."""

    parity_error: float
    latency_ms: float
    size_mb: float


@dataclass(frozen=True)
class AnchorScores:
    """One frozen set of earlier held-out requests, scored again.

    Attributes:
        age: rounds since they were held out; until: the newest data of that time, ISO-8601.
        user, challenger, champion, then: unit and `primary` metric of each request; `then` is what the model that was
            made in that round came to, champion None where nothing serves.
    """

    age: int
    until: str
    user: npt.NDArray[Any]
    challenger: Floats
    champion: Floats | None
    then: Floats


@dataclass(frozen=True)
class Evidence:
    """Everything measured of one challenger.

    Attributes:
        champion: scores on the same requests in the same order, None where nothing serves.
        infra: what a fresh process found; None where it was not asked, which refuses.
        slices: masks over the requests by name; expected: slices that must be among them.
        lists, champion_lists: what would be shown; None for a task that shows no lists.
        anchors: oldest last.
    """

    challenger: RequestScores
    champion: RequestScores | None
    facts: BundleFacts
    infra: InfraVerdict | None
    slices: Mapping[str, Bools] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    lists: ListFigures | None = None
    champion_lists: ListFigures | None = None
    anchors: tuple[AnchorScores, ...] = ()
