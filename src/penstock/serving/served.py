"""One version in memory: its scorer, how far it has seen, and the check that it answers before anybody asks."""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.errors import BundleError
from penstock.inference.scorer import UserContext
from penstock.records import EVENT_COLUMNS
from penstock.serving.candidates import Allowed, find_candidates
from penstock.serving.ports import ScorerLike
from penstock.serving.rules import JudgedItems


@dataclass
class Served:
    """One loaded version. Hold `lock` while using `scorer`; `following` is the runtime's own, taken before it.

    `folder`: its bundle; `erasure`: the last erased user that it does not know any more; `seq`, `items_seq`: the last
    journal entry and the last posted item it has seen; `loaded_seq`: the last entry before it began to answer;
    `judged`: what the business rules say of its items, None until a policy asks.
    """

    version: str
    digest: str
    scorer: ScorerLike
    loaded_at: datetime
    folder: Path = Path()
    erasure: int = 0
    seq: int = 0
    loaded_seq: int = 0
    items_seq: int = 0
    judged: JudgedItems | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    following: threading.Lock = field(default_factory=threading.Lock)

    def see(self, page: pl.DataFrame) -> None:
        """Take a page of the journal in; the caller holds the lock."""
        self.scorer.observe(page[list(EVENT_COLUMNS)])
        self.seq = int(page["seq"][-1])


def warm(scorer: ScorerLike, now: datetime) -> None:
    """Run every graph once: the first call of a session pays for its allocations, and a score that is none shows.

    Raises:
        BundleError: weights that are not finite; a digest vouches for bytes, not for sense.
    """
    if scorer.task == "classify":
        _check_finite("probabilities", scorer.classify(["warm up"]))
        return
    items = scorer.items["item_id"].head(16).to_list()
    past = tuple((item, "click", now) for item in items[:2])
    ranked = scorer.rank(UserContext(history=past, query="warm up"), items, now, len(items))
    find_candidates(scorer, UserContext(history=past), now, len(items), Allowed(scorer.state, now.timestamp()))
    _check_finite("scores", np.array([scored.score for scored in ranked]))


def _check_finite(what: str, found: NDArray[np.floating[Any]]) -> None:
    bad = np.count_nonzero(~np.isfinite(found))
    if bad:
        raise BundleError(f"{bad} of {found.size} {what} of the warm-up are not finite; the weights are damaged")
