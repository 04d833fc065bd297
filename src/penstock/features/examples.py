"""Requests turned into arrays a model can score or learn from, each seen only through what came before it.

R requests, C candidates (padded), L past events (padded, most recent last), F features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.features.history import History
from penstock.features.state import CausalState, EventBatch, seconds

Refresh = Literal["event", "window"]
MAX_POSITIVES = 64
SAMPLER_REFRESH_S = 60.0


@dataclass(frozen=True)
class Examples:
    """Padded arrays of R requests.

    Attributes:
        row_RC: int64, candidate rows; 0 where padded.
        feature_RCF: float32.
        gain_RC: float32, what the candidate was worth, 0 for a negative.
        offset_RC: float32, added to a score in the loss only: minus log of the expected count of a sampled
            negative (sampled-softmax correction), 0 for shown items and positives.
        position_RC: int64, 0-based rank shown, -1 where not logged.
        mask_RC: bool, True where a candidate is real.
        past_row_RL, past_kind_RL: int64. past_age_RL: float32, log1p of hours. past_mask_RL: bool.
    """

    row_RC: NDArray[np.int64]
    feature_RCF: NDArray[np.float32]
    gain_RC: NDArray[np.float32]
    offset_RC: NDArray[np.float32]
    position_RC: NDArray[np.int64]
    mask_RC: NDArray[np.bool_]
    past_row_RL: NDArray[np.int64]
    past_kind_RL: NDArray[np.int64]
    past_age_RL: NDArray[np.float32]
    past_mask_RL: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row_RC)

    def take(self, index: NDArray[np.int64] | slice) -> "Examples":
        """The requests at `index`."""
        return Examples(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def join(parts: list["Examples"]) -> "Examples":
        """One after the other, padded to the widest."""
        width = max(part.row_RC.shape[1] for part in parts)
        padded = [part.widened(width) for part in parts]
        return Examples(*(np.concatenate([getattr(part, f.name) for part in padded]) for f in fields(Examples)))

    def widened(self, width: int) -> "Examples":
        """The same requests with room for `width` candidates."""
        extra = width - self.row_RC.shape[1]
        if extra == 0:
            return self
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if not name.startswith("past_"):
                fill = -1 if name == "position_RC" else 0
                shape = [(0, 0), (0, extra)] + [(0, 0)] * (value.ndim - 2)
                values[name] = np.pad(value, shape, constant_values=fill)
        return Examples(**values)


@dataclass(frozen=True)
class Labelled:
    """Labelled texts.

    Attributes:
        text_R: int64, rows in the table of texts.
        label_R: int64, rows in the list of labels.
    """

    text_R: NDArray[np.int64]
    label_R: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.text_R)

    def take(self, index: NDArray[np.int64] | slice) -> "Labelled":
        """The texts at `index`."""
        return Labelled(self.text_R[index], self.label_R[index])

    @staticmethod
    def join(parts: list["Labelled"]) -> "Labelled":
        """One after the other."""
        return Labelled(np.concatenate([p.text_R for p in parts]), np.concatenate([p.label_R for p in parts]))


Past = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]
"""Rows, kinds, ages and mask of past events, padded."""


def past_arrays(history: History, length: int, at_s: float) -> Past:
    """The last `length` events as padded rows, kinds, ages (log1p hours) and mask, most recent last."""
    recent = history.last(length)
    row_L, kind_L = np.zeros(length, np.int64), np.zeros(length, np.int64)
    age_L, mask_L = np.zeros(length, np.float32), np.zeros(length, bool)
    if len(recent):
        part = slice(length - len(recent), None)
        row_L[part], kind_L[part], mask_L[part] = recent.row_L, recent.kind_L, True
        age_L[part] = np.log1p(np.maximum(at_s - recent.at_s_L, 0.0) / 3600.0)
    return row_L, kind_L, age_L, mask_L


class Sampler:
    """Negatives where only positives are logged: part by popularity, part uniform over the items on offer.

    Items that nobody had yet are drawn too: without them the model never meets an item of all zeros, and scores one
    at random (measured: a model left stale filled its top ten with them).
    """

    def __init__(self, negatives: int, popular_share: float, seed: int) -> None:
        self.negatives, self.popular_share = negatives, popular_share
        self.random = np.random.default_rng(seed)
        self._pool: NDArray[np.int64] = np.zeros(0, np.int64)
        self._chance: NDArray[np.float64] = np.zeros(0)
        self._edge: NDArray[np.float64] = np.zeros(0)

    def refresh(self, state: CausalState, at_s: float) -> None:
        """Take the popularity as it stands at `at_s`."""
        self._pool = state.offered(at_s)
        if not len(self._pool):
            self._pool = np.arange(len(state.items))
        count_N = state.positive.at(at_s, self._pool)[:, -1] + 1e-9
        uniform = 1.0 / len(self._pool)
        self._chance = self.popular_share * count_N / count_N.sum() + (1 - self.popular_share) * uniform
        self._edge = np.cumsum(self._chance)

    def draw(self, excluded: set[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Distinct rows outside of `excluded`, and the offset that corrects for how likely each was."""
        place = np.searchsorted(self._edge, self.random.random(self.negatives) * self._edge[-1])
        place = np.unique(np.minimum(place, len(self._pool) - 1))
        place = place[[int(row) not in excluded for row in self._pool[place]]]
        inclusion = -np.expm1(self.negatives * np.log1p(-np.minimum(self._chance[place], 1 - 1e-9)))
        return self._pool[place], -np.log(inclusion).astype(np.float32)


@dataclass(frozen=True)
class Asked:
    """One request as it came, with the state as it stood: what a walk hands out.

    `frozen_NF`: item features of the window, None where counters move with every event.
    """

    request: dict[str, Any]
    at_s: float
    history: History
    frozen_NF: NDArray[np.float32] | None


def walk(
    state: CausalState, events: pl.DataFrame, requests: pl.DataFrame, refresh: Refresh, count: bool = True
) -> Iterator[Asked]:
    """Go through requests in time order, the state moving along with the events strictly before each.

    With refresh "event" counters and histories move with every event; with "window" only histories do, and the
    counters take all events once the walk is done (never when `count` is False: a stale model).
    Requests must be sorted by time.
    """
    batch = state.batch(events.sort("at", "event_id"))
    at_s_R = requests["at"].dt.timestamp("us").to_numpy().astype(np.float64) / 1e6
    edge_R = np.searchsorted(batch.at_s_E, at_s_R, side="left")
    frozen_NF = state.item_features(state.counted_s) if refresh == "window" else None
    done = 0
    for request, edge in zip(requests.iter_rows(named=True), edge_R.tolist(), strict=True):
        if edge > done:
            _move(state, batch.part(slice(done, edge)), refresh)
            done = edge
        yield Asked(request, seconds(request["at"]), state.histories.of(request["user_id"]), frozen_NF)
    _move(state, batch.part(slice(done, None)), refresh)
    if refresh == "window" and count:
        state.observe_counts(batch)


def _move(state: CausalState, batch: EventBatch, refresh: Refresh) -> None:
    if refresh == "event":
        state.observe_counts(batch)
    state.observe_history(batch)


def build_examples(
    state: CausalState,
    events: pl.DataFrame,
    requests: pl.DataFrame,
    refresh: Refresh,
    sampler: Sampler,
    probe: Callable[[Asked], None] | None = None,
    users: list[str] | None = None,
) -> Examples:
    """Examples of the requests that led to something, the state ending after the last event.

    `probe` sees every request first: this is where it is scored. The user of each example is added to `users`.

    Raises:
        ValueError: requests are not in time order.
    """
    if not requests["at"].is_sorted():
        raise ValueError("requests must be in time order")
    rows: list[dict[str, NDArray[np.generic]]] = []
    length = state.spec.history_length
    refreshed = -np.inf
    for asked in walk(state, events, requests, refresh):
        if probe is not None:
            probe(asked)
        if refreshed == -np.inf or (refresh == "event" and asked.at_s - refreshed > SAMPLER_REFRESH_S):
            sampler.refresh(state, asked.at_s)
            refreshed = asked.at_s
        candidates = _candidates(state, asked, sampler)
        if candidates is None:
            continue
        if users is not None:
            users.append(asked.request["user_id"])
        row_C, gain_C, offset_C, position_C = candidates
        feature_CF = state.features(asked.history, row_C, asked.at_s, asked.frozen_NF)
        past = past_arrays(asked.history, length, asked.at_s)
        rows.append(dict(zip(_COLUMNS, (row_C, feature_CF, gain_C, offset_C, position_C, *past), strict=True)))
    return _padded(rows, length, len(state.spec.names))


_COLUMNS = ("row", "feature", "gain", "offset", "position", "past_row", "past_kind", "past_age", "past_mask")


def _candidates(
    state: CausalState, asked: Asked, sampler: Sampler
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]] | None:
    request = asked.request
    gains = {
        state.row_of[item]: gain
        for item, gain in zip(request["relevant"], request["gain"], strict=True)
        if item in state.row_of
    }
    if not gains:
        return None
    shown = [state.row_of[item] for item in request["shown"] if item in state.row_of]
    if shown:
        row_C = np.array(shown, np.int64)
        gain_C = np.array([gains.get(row, 0.0) for row in shown], np.float32)
        if not gain_C.any():
            return None
        position_C = np.array(_positions(state, request), np.int64)
        return row_C, gain_C, np.zeros(len(shown), np.float32), position_C
    positive = list(gains)[:MAX_POSITIVES]
    # Where nothing is offered twice, an item the user had is no candidate, so no negative either: taught as one, it
    # would teach that what resembles the past is bad (decision 0009).
    had = set() if state.spec.repeats else set(asked.history.row_L.tolist())
    negative_C, offset_C = sampler.draw(had | set(gains))
    row_C = np.concatenate([np.array(positive, np.int64), negative_C])
    gain_C = np.concatenate([[gains[row] for row in positive], np.zeros(len(negative_C))]).astype(np.float32)
    offset = np.concatenate([np.zeros(len(positive), np.float32), offset_C])
    return row_C, gain_C, offset, np.full(len(row_C), -1, np.int64)


def _positions(state: CausalState, request: dict[str, Any]) -> list[int]:
    """0-based ranks of the shown items that are known, -1 where the log has none."""
    logged = request["position"] or [None] * len(request["shown"])
    ranks = zip(request["shown"], logged, strict=True)
    return [-1 if rank is None else rank for item, rank in ranks if item in state.row_of]


def _padded(rows: list[dict[str, NDArray[np.generic]]], length: int, n_features: int) -> Examples:
    width = max((len(row["row"]) for row in rows), default=1)
    count = len(rows)
    out = Examples(
        np.zeros((count, width), np.int64),
        np.zeros((count, width, n_features), np.float32),
        np.zeros((count, width), np.float32),
        np.zeros((count, width), np.float32),
        np.full((count, width), -1, np.int64),
        np.zeros((count, width), bool),
        np.zeros((count, length), np.int64),
        np.zeros((count, length), np.int64),
        np.zeros((count, length), np.float32),
        np.zeros((count, length), bool),
    )
    for index, row in enumerate(rows):
        part = slice(0, len(row["row"]))
        out.row_RC[index, part], out.feature_RCF[index, part] = row["row"], row["feature"]
        out.gain_RC[index, part], out.offset_RC[index, part] = row["gain"], row["offset"]
        out.position_RC[index, part], out.mask_RC[index, part] = row["position"], True
        out.past_row_RL[index], out.past_kind_RL[index] = row["past_row"], row["past_kind"]
        out.past_age_RL[index], out.past_mask_RL[index] = row["past_age"], row["past_mask"]
    return out
