"""What the service asks of the layers below it, as protocols, so that tests can hand in small fakes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.state import CausalState
from penstock.inference.scorer import RowScores, Scored, UserContext


class ScorerLike(Protocol):
    """A bundle in memory; see inference.scorer.Scorer. Not thread-safe: callers hold the lock of Served."""

    digest: str
    task: str
    labels: list[str]
    learned_until: str
    items: pl.DataFrame
    state: CausalState
    """`items`: item_id, title, category, published_at, in the order of `state.items`; `state`: ranking task only."""

    def rank(self, user: UserContext, candidates: list[str] | None, at: datetime, k: int) -> list[Scored]:
        """The best `k` of `candidates`, best first."""

    def score(
        self, user: UserContext, row_C: NDArray[np.int64], at: datetime, user_E: NDArray[np.float32] | None = None
    ) -> RowScores:
        """Scores of distinct rows; `user_E`: the user's vector, where it is known already."""

    def describe(self, row: int) -> dict[str, Any]:
        """item_id, title and category of one item."""

    def history_of(self, user: UserContext) -> History:
        """The past that a request is judged by, oldest first."""

    def user_vector(self, history: History, at_s: float) -> NDArray[np.float32]:
        """The user's vector [E]."""

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items nearest to a user's vector, best first."""

    def similar(self, item_id: str, k: int) -> list[tuple[str, float]]:
        """The `k` items closest to `item_id`, with their cosine."""

    def classify(self, texts: list[str]) -> NDArray[np.float32]:
        """Probabilities [B, labels]."""

    def encode_items(self, catalogue: pl.DataFrame) -> NDArray[np.float32]:
        """Vectors [B, E] of items from their text; needs no lock."""

    def add_items(self, catalogue: pl.DataFrame, vector_BE: NDArray[np.float32] | None = None) -> int:
        """Make new items recommendable; known ones are left as they are. Returns how many were new."""

    def directions(self, row_C: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of unit length [C, E]: a dot product of two is how alike the items are."""

    def observe(self, events: pl.DataFrame) -> None:
        """Take events into live counters and histories."""


class AcceptedLike(Protocol):
    """What the journal says of a batch; `rejected` holds (index, event_id, reason)."""

    @property
    def accepted(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def rejected(self) -> Sequence[tuple[int, str | None, str]]: ...


class JournalLike(Protocol):
    """The part of data.journal.Journal that the service uses."""

    @property
    def name_of(self) -> Callable[[str], str]:
        """From a user's id to the name in the events; see data/pseudonyms.py."""

    def append(self, events: list[dict[str, Any]], now: datetime) -> AcceptedLike:
        """Durable when it returns; an event_id that was taken before counts as a duplicate."""

    def read(self, since_seq: int, limit: int) -> pl.DataFrame:
        """Events after `since_seq` in the order of acceptance: `seq` and records.EVENT_COLUMNS."""

    def pending(self) -> int:
        """Events that no snapshot holds yet."""


class PostedLike(Protocol):
    """The part of data.posted_items.PostedItems that the service uses."""

    def append(self, items: Sequence[Mapping[str, Any]], now: datetime) -> int:
        """Keep the items whose id is new; durable when it returns. Returns how many those are."""

    def read(self, since_seq: int) -> tuple[pl.DataFrame, int]:
        """Items posted after `since_seq` as records.CATALOGUE_COLUMNS, and the number to go on from."""


class PointerLike(Protocol):
    """The part of registry.store.Registry that the swap uses."""

    def champion_pointer(self) -> tuple[str, str, Path] | None:
        """Number, digest and bundle folder of the version that is to serve, None before the first promotion."""
