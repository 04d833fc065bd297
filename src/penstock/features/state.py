"""Causal state: what is known of items and users from the events received so far, and the features read from it.

One code path for training, backtest and service. Events go in through `observe`; `features` reads. Nothing can see
an event that was not observed yet, which is what makes the features causal.

N items, H half-lives, C candidates, L past events, F features.
"""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from penstock.errors import BundleError
from penstock.features.columns import HOUR_S, PAIR_TAIL, fill_item_columns, fill_user_columns, item_columns
from penstock.features.cooccurrence import Cooccurrence, PairsFound
from penstock.features.decay import DecayedCounts
from penstock.features.history import Histories, History
from penstock.features.places import PlaceTable
from penstock.features.pool import Pool, unheld
from penstock.features.spec import CATEGORY_HALF_LIVES_H, FeatureSpec
from penstock.features.staged import staged
from penstock.features.tensors import read_tensors
from penstock.features.yields import Yields

__all__ = ["PAIR_TAIL", "CausalState", "EventBatch", "FeatureSpec", "seconds"]

COUNTERS = ("positive", "shown", "by_category", "pair_count", "follow_count")
NOT_HISTORY = ("impression", "label")


@dataclass(frozen=True)
class EventBatch:
    """Events of known items as arrays, E of them in time order. `past_E`: True where it enters a history."""

    user_E: NDArray[Any]
    row_E: NDArray[np.int64]
    kind_E: NDArray[np.int64]
    gain_E: NDArray[np.float64]
    at_s_E: NDArray[np.float64]
    past_E: NDArray[np.bool_]

    def part(self, index: slice | NDArray[np.bool_]) -> "EventBatch":
        """Some of the events."""
        columns: tuple[Any, ...] = (self.user_E, self.row_E, self.kind_E, self.gain_E, self.at_s_E, self.past_E)
        return EventBatch(*(column[index] for column in columns))


def seconds(at: datetime) -> float:
    """Seconds since the epoch."""
    return at.timestamp()


class CausalState:
    """Counters, co-occurrence and histories; see the module."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.items: list[str] = []
        self.row_of: dict[str, int] = {}
        self.category_N = np.zeros(0, np.int64)
        self.categories: dict[str, int] = {}
        self.born_s_N = np.zeros(0)
        self.seen_N = np.zeros(0, bool)
        half_lives_s = np.array(spec.half_lives_h) * HOUR_S
        self.positive = DecayedCounts(half_lives_s)
        self.shown = DecayedCounts(half_lives_s)
        self.by_category = DecayedCounts(np.array(CATEGORY_HALF_LIVES_H) * HOUR_S)
        pair_s, follow_s = spec.cooccurrence_half_life_h * HOUR_S, spec.follows_half_life_h * HOUR_S
        self.pairs, self.follows = Cooccurrence(pair_s), Cooccurrence(follow_s, directed=True)
        self.pair_count, self.follow_count = DecayedCounts(np.array([pair_s])), DecayedCounts(np.array([follow_s]))
        self.histories = Histories()
        self.tails = Histories()
        self.yields = Yields()
        self.trending, self.newest = Pool(unheld(self._trend)), Pool(unheld(self._birth))
        self.places = PlaceTable()
        self.observed_events = 0
        self.counted_s = 0.0
        self._gain = dict(zip(spec.kinds, spec.gains, strict=True))
        self._kind = {kind: index for index, kind in enumerate(spec.kinds)}
        self._is_past = np.array([kind not in NOT_HISTORY for kind in spec.kinds] + [False])  # -1: an unknown kind

    # ---- items

    def add_items(self, catalogue: pl.DataFrame) -> None:
        """Add the catalogue's items that are not known yet; known ones keep their row."""
        fresh = catalogue.filter(~pl.col("item_id").is_in(self.items)) if self.items else catalogue
        if fresh.is_empty():
            return
        for item in fresh["item_id"]:
            self.row_of[item] = len(self.items)
            self.items.append(item)
        names = fresh["category"].fill_null("").to_list()
        codes = [self.categories.setdefault(name, len(self.categories)) for name in names]
        born_s = fresh["published_at"].dt.timestamp("us").to_numpy().astype(np.float64) / 1e6
        self.category_N = np.concatenate([self.category_N, np.array(codes, np.int64)])
        self.born_s_N = np.concatenate([self.born_s_N, born_s])
        self.seen_N = np.concatenate([self.seen_N, np.zeros(len(fresh), bool)])
        for name in COUNTERS:
            getattr(self, name).grow(len(self.categories) if name == "by_category" else len(self.items))
        self.newest.touch(np.arange(len(self.items) - len(fresh), len(self.items)))

    def _trend(self, at_s: float, row_P: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Positive events lately, at every half-life; -inf for an item without any."""
        sum_P = self.positive.summed(at_s, row_P)
        return np.where(sum_P > 0, sum_P, -np.inf)

    def _birth(self, at_s: float, row_P: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """When an item was born; -inf while it is not born yet, or where nobody knows."""
        born_s_P = self.born_s_N if row_P is None else self.born_s_N[row_P]
        return np.where(born_s_P <= at_s, born_s_P, -np.inf)

    # ---- events in

    def observe(self, events: pl.DataFrame) -> None:
        """Take events into counters and histories. Unknown items are left out."""
        batch = self.batch(events)
        self.observe_counts(batch)
        self.observe_history(batch)

    def batch(self, events: pl.DataFrame) -> EventBatch:
        """Events as the arrays that counters and histories take; those of unknown items are left out."""
        row_E = np.array([self.row_of.get(item, -1) for item in events["item_id"].to_list()], np.int64)
        kind = events["kind"].to_list()
        gain_E = np.array([self._gain.get(name, 0.0) for name in kind], np.float64)
        kind_E = np.array([self._kind.get(name, -1) for name in kind], np.int64)
        # numpy throughout: polars starts its query engine for each of these, which a single event would wait for.
        low_E = (kind_E == self._kind.get("rating", -2)) & (events["value"].to_numpy() < self.spec.positive_rating_min)
        gain_E[low_E] = 0.0
        past_E = self._is_past[kind_E] & ~low_E
        at_s_E = events["at"].to_numpy().astype("datetime64[us]").astype(np.float64) / 1e6
        user_E = events["user_id"].to_numpy()
        keep_E = row_E >= 0
        return EventBatch(user_E, row_E, kind_E, gain_E, at_s_E, past_E).part(keep_E)

    def observe_history(self, batch: EventBatch) -> None:
        """Take events into the users' histories only; `observe_counts` follows later with the same events."""
        past = batch.part(batch.past_E)
        columns = (past.user_E.tolist(), past.row_E.tolist(), past.kind_E.tolist(), past.at_s_E.tolist())
        for user, row, kind, at_s in zip(*columns, strict=True):
            self.histories.add(user, row, kind, at_s)

    def observe_counts(self, batch: EventBatch) -> None:
        """Take events into the item counters only."""
        row_E, at_s_E = batch.row_E, batch.at_s_E
        self.observed_events += len(row_E)
        if not len(row_E):
            return
        self.counted_s = max(self.counted_s, float(at_s_E.max()))
        new_row_E = row_E[~self.seen_N[row_E]]
        if len(new_row_E):
            first_s = np.full(len(self.items), np.inf)
            np.minimum.at(first_s, row_E, at_s_E)
            rows = np.unique(new_row_E)
            unknown = rows[np.isnan(self.born_s_N[rows])]
            self.born_s_N[unknown] = first_s[unknown]
            self.newest.touch(unknown)
            self.seen_N[rows] = True
        is_shown_E = batch.kind_E == self._kind.get("impression", -2)
        is_positive_E = batch.gain_E > 0
        self.shown.add(row_E[is_shown_E], np.ones(int(is_shown_E.sum())), at_s_E[is_shown_E])
        row_P, at_s_P = row_E[is_positive_E], at_s_E[is_positive_E]
        ones_P = np.ones(len(row_P))
        self.positive.add(row_P, ones_P, at_s_P)
        self.by_category.add(self.category_N[row_P], ones_P, at_s_P)
        self.pair_count.add(row_P, ones_P, at_s_P)
        self.trending.touch(row_E)
        self._pair(batch.part(batch.past_E))

    def _pair(self, batch: EventBatch) -> None:
        """Count each event beside the user's last ones, and as one that came after those of earlier moments."""
        near = PairsFound()
        columns = (batch.user_E.tolist(), batch.row_E.tolist(), batch.at_s_E.tolist())
        for user, row, at_s in zip(*columns, strict=True):
            past, past_at_s = self.tails.tail(user, PAIR_TAIL)
            for lag, (other, other_at_s) in enumerate(zip(past[::-1], past_at_s[::-1], strict=True), start=1):
                if other != row:
                    near.add(other, row, at_s, 1.0 / lag if other_at_s < at_s else 0.0)
            self.tails.add(user, row, 0, at_s)
        left_P, right_P, at_s_P, weight_P = near.arrays()
        rows = len(self.items)
        self.pairs.add(left_P, right_P, at_s_P, rows)
        after_P = weight_P > 0
        self.follows.add(left_P[after_P], right_P[after_P], at_s_P[after_P], rows, weight_P[after_P])
        self.follow_count.add(batch.row_E, np.ones(len(batch.row_E)), batch.at_s_E)

    def fold_apart(self, lock: AbstractContextManager[Any]) -> None:
        """Fold what waits in large matrices, if it is time; see Cooccurrence.fold_apart for `lock`."""
        for counts in (self.pairs, self.follows):
            counts.fold_apart(len(self.items), lock)

    # ---- features out

    def eligible(self) -> NDArray[np.int64]:
        """Rows of the items with at least one counted event."""
        return np.flatnonzero(self.seen_N)

    def offered(self, at_s: float) -> NDArray[np.int64]:
        """Rows of the items that are not known to be born later than `at_s`; those nobody had yet are among them."""
        return np.flatnonzero(~(self.born_s_N > at_s))

    def item_features(self, at_s: float, row_C: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The features that depend on the item only, at `at_s`: float32 [C, F_item], all N items when rows are None."""
        return item_columns(self, at_s, row_C)

    @staged("features")
    def features(
        self,
        history: History,
        row_C: NDArray[np.int64],
        at_s: float,
        frozen_NF: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Features of candidates for a user.

        Args:
            history: everything the user did before the request.
            row_C: int64, distinct candidate rows.
            at_s: the request's time, seconds since the epoch.
            frozen_NF: `item_features(counted_s)` where counters stand still for a window; counts are then read as of
                the last counted event instead of as of the request.

        Returns:
            float32 [C, F], columns as `FeatureSpec.names`.
        """
        out_CF = np.empty((len(row_C), len(self.spec.names)), np.float32)
        of_item = slice(len(self.spec.item_names))
        if frozen_NF is None:
            fill_item_columns(self, at_s, row_C, out_CF[:, of_item])
        else:
            out_CF[:, of_item] = frozen_NF[row_C]
        counts_at_s = at_s if frozen_NF is None else self.counted_s
        fill_user_columns(self, history, row_C, at_s, counts_at_s, out_CF[:, of_item.stop :])
        return out_CF

    # ---- keeping

    def save(self, folder: Path) -> None:
        """Write items.json, users.json and counters.safetensors into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        users, history = self.histories.arrays()
        tail_users, tails = self.tails.arrays()
        arrays: dict[str, Any] = {
            "born": self.born_s_N,
            "seen": self.seen_N.astype(np.int64),
            "category": self.category_N,
            "observed": np.array([self.observed_events], np.int64),
            "counted": np.array([self.counted_s]),
            **self.pairs.arrays("pairs", len(self.items)),
            **self.follows.arrays("follows", len(self.items)),
            **self.yields.arrays("yield"),
            **history,
            **{f"tail.{name}": values for name, values in tails.items()},
        }
        for name in COUNTERS:
            arrays |= getattr(self, name).arrays(name)
        save_file(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / "counters.safetensors"
        )
        names = {"items": self.items, "categories": list(self.categories), "users": users, "tail_users": tail_users}
        (folder / "names.json").write_text(json.dumps(names))
        (folder / "spec.json").write_text(json.dumps(self.spec.to_json()))

    @classmethod
    def load(cls, folder: Path) -> "CausalState":
        """The inverse of `save`.

        Raises:
            BundleError: a file is missing or does not parse.
        """
        try:
            spec = FeatureSpec.from_json(json.loads((folder / "spec.json").read_text()))
            names = json.loads((folder / "names.json").read_text())
            arrays = read_tensors(folder / "counters.safetensors")
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder}: the causal state cannot be read ({error})") from error
        state = cls(spec)
        state.items = names["items"]
        state.row_of = {item: row for row, item in enumerate(state.items)}
        state.categories = {name: code for code, name in enumerate(names["categories"])}
        state.category_N, state.born_s_N = arrays["category"], arrays["born"]
        state.seen_N = arrays["seen"].astype(bool)
        state.observed_events = int(arrays["observed"][0])
        state.counted_s = float(arrays["counted"][0])
        for name in COUNTERS:
            getattr(state, name).restore(name, arrays)
        state.pairs.restore("pairs", arrays)
        state.follows.restore("follows", arrays)
        state.yields.restore("yield", arrays)
        state.histories.restore(names["users"], arrays)
        tails = {name.removeprefix("tail."): values for name, values in arrays.items() if name.startswith("tail.")}
        state.tails.restore(names["tail_users"], tails)
        return state
