"""Who is looked at apart in a backtest: kinds of users, and kinds of the items that requests led to.

Every slice is a property of the request and of the log before its protocol window, never of a method, so that all
methods are compared on the same requests. R requests, F pairs of request and wanted item, N items, W windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.evaluation.comparison import RequestMetrics
from penstock.evaluation.outcomes import Outcome, Wanted
from penstock.evaluation.prequential import Window
from penstock.metrics import Ints

Mask = npt.NDArray[np.bool_]
NEW_USER_EVENTS = 3
HEAVY_SHARE = 0.1
RARE_EVENTS = 10
POPULAR_SHARE = 0.1
MAX_CATEGORIES = 12
NEW_USERS, HEAVY_USERS = "new users", "heavy users"
YOUNG, UNSEEN, UNSEEN_WIDENED = "young items", "unseen items", "unseen items, all on offer"
POPULAR, RARE = "popular items", "rare items"
MEANING = {
    NEW_USERS: f"Requests of users with at most {NEW_USER_EVENTS} earlier events.",
    HEAVY_USERS: f"The {HEAVY_SHARE:.0%} of requests whose users have most earlier events.",
    POPULAR: f"The {POPULAR_SHARE:.0%} of seen items with most events before the window.",
    RARE: f"Items with 1 to {RARE_EVENTS - 1} events before the window.",
    YOUNG: "Items first seen in the window before the request's.",
    UNSEEN: "Items without any event before the window. The protocol leaves them out of the candidates, so only a "
    "cadence that learns within the window, or a logged list, can rank them.",
    UNSEEN_WIDENED: "The same requests with every item on offer as a candidate, unseen ones too; an item without a "
    "publication date counts as on offer. Measured for the cadences only.",
}


@dataclass(frozen=True)
class Slices:
    """Masks over requests, and over pairs of request and wanted item."""

    users: dict[str, Mask]
    items: dict[str, Mask]

    def measured(self, wanted: Wanted, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, RequestMetrics]]:
        """Every slice's figures for every method; item slices are measured on those items alone."""
        found: dict[str, dict[str, RequestMetrics]] = {}
        for name, mask_R in self.users.items():
            found[name] = {key: wanted.metrics(one.rank_F).where(mask_R) for key, one in outcomes.items()}
        for name, mask_F in self.items.items():
            found[name] = {key: wanted.metrics(one.rank_F, mask_F) for key, one in outcomes.items()}
            if name == UNSEEN:
                widened = {key: one.widened_F for key, one in outcomes.items() if one.widened_F is not None}
                found[UNSEEN_WIDENED] = {
                    key: wanted.metrics(np.maximum(rank_F, 0), mask_F) for key, rank_F in widened.items()
                }
        return found


def find_slices(
    wanted: Wanted, earlier_R: Ints, warm: pl.DataFrame, windows: list[Window], catalogue: pl.DataFrame
) -> Slices:
    """The slices of a stream.

    Args:
        earlier_R: earlier events of each request's user.
        warm: events before the stream.
        windows: the protocol's windows.
        catalogue: records.CATALOGUE_COLUMNS; categories are slices where there are two or more.
    """
    names, code_F = np.unique(wanted.item_F, return_inverse=True)
    frames = [warm, *(window.events for window in windows)]
    before_F, first_F = _seen_before(wanted, names, code_F, frames)
    # Popular and rare are judged by what people took, not by what they were shown.
    taken = [frame.filter(pl.col("kind") != "impression") for frame in frames]
    taken_F, _ = _seen_before(wanted, names, code_F, taken)
    users = {NEW_USERS: earlier_R <= NEW_USER_EVENTS}
    if len(earlier_R):
        users[HEAVY_USERS] = earlier_R >= max(np.quantile(earlier_R, 1 - HEAVY_SHARE), NEW_USER_EVENTS + 1)
    window_F = wanted.window_R[wanted.owner_F]
    items = {
        POPULAR: taken_F >= _popular_edges(taken)[window_F],
        RARE: (taken_F > 0) & (taken_F < RARE_EVENTS),
        YOUNG: (first_F == window_F - 1) & (window_F > 0),
        UNSEEN: before_F == 0,
    }
    return Slices(users, items | _categories(wanted, catalogue))


def _seen_before(
    wanted: Wanted, names: npt.NDArray[np.str_], code_F: Ints, frames: list[pl.DataFrame]
) -> tuple[Ints, Ints]:
    """For each pair: events of its item before its window, and the window that saw the item first (-1: the warm-up).

    Args:
        frames: the warm-up's events, then each window's.
    """
    place = {name: code for code, name in enumerate(names.tolist())}
    count_N = _counts(frames[0], place)
    first_N = np.where(count_N > 0, -1, len(frames))
    before_F = np.zeros(len(code_F), np.int64)
    window_F = wanted.window_R[wanted.owner_F]
    for window, events in enumerate(frames[1:]):
        inside_F = window_F == window
        before_F[inside_F] = count_N[code_F[inside_F]]
        now_N = _counts(events, place)
        first_N = np.where((now_N > 0) & (count_N == 0), window, first_N)
        count_N = count_N + now_N
    return before_F, first_N[code_F]


def _counts(events: pl.DataFrame, place: Mapping[str, int]) -> Ints:
    out_N = np.zeros(len(place), np.int64)
    for item, count in events["item_id"].value_counts().iter_rows():
        if item in place:
            out_N[place[item]] = count
    return out_N


def _popular_edges(frames: list[pl.DataFrame]) -> npt.NDArray[np.float64]:
    """For each window, the number of earlier events from which an item is among the most popular tenth."""
    counts: dict[str, int] = {}
    edges = []
    for events in frames:
        edges.append(max(float(np.quantile(list(counts.values()), 1 - POPULAR_SHARE)), 1.0) if counts else np.inf)
        for item, count in events["item_id"].value_counts().iter_rows():
            counts[item] = counts.get(item, 0) + count
    return np.array(edges[1:])


def _categories(wanted: Wanted, catalogue: pl.DataFrame) -> dict[str, Mask]:
    """The categories that most pairs fall into, where the catalogue tells two or more apart."""
    category_of = dict(catalogue.select("item_id", "category").drop_nulls().iter_rows())
    if len(set(category_of.values())) < 2:
        return {}
    category_F = np.array([category_of.get(item, "") for item in wanted.item_F.tolist()], np.str_)
    names, counts = np.unique(category_F[category_F != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]
    return {f"category {name}": category_F == name for name in names[order].tolist()}
