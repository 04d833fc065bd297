"""Slices are properties of the request and of the log before its window."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from penstock.evaluation.outcomes import Outcome, Wanted
from penstock.evaluation.prequential import Window
from penstock.evaluation.slices import find_slices

START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(items: list[str], kind: str = "click") -> pl.DataFrame:
    return pl.DataFrame(
        {"item_id": items, "kind": [kind] * len(items)}, schema={"item_id": pl.String, "kind": pl.String}
    )


WARM = frame(["old"] * 30 + ["rare"] * 2 + ["other"] * 3)
WINDOWS = [Window(0, 0.0, 1.0, frame(["young", "old"])), Window(1, 1.0, 2.0, frame(["young", "late"]))]
CATALOGUE = pl.DataFrame({"item_id": ["old", "rare", "other", "young", "late"], "category": ["a", "b", None, "b", "b"]})
WANTED = Wanted.of(
    [
        (0, "u", 0, 0.5, ["young", "old"]),
        (1, "v", 1, 1.5, ["young"]),
        (2, "w", 1, 1.6, ["late", "rare"]),
    ]
)


def test_items_are_told_apart_by_what_came_before_their_window() -> None:
    slices = find_slices(WANTED, np.array([0, 3, 50]), WARM, WINDOWS, CATALOGUE)
    pairs = WANTED.item_F.tolist()
    assert pairs == ["young", "old", "young", "late", "rare"]
    assert slices.items["unseen items"].tolist() == [True, False, False, True, False]
    assert slices.items["young items"].tolist() == [False, False, True, False, False]
    assert slices.items["popular items"].tolist() == [False, True, False, False, False]
    assert slices.items["rare items"].tolist() == [False, False, True, False, True]
    assert slices.items["category b"].tolist() == [True, False, True, True, True]
    assert slices.items["category a"].tolist() == [False, True, False, False, False]


def test_users_are_told_apart_by_their_past() -> None:
    slices = find_slices(WANTED, np.array([0, 3, 50]), WARM, WINDOWS, CATALOGUE)
    assert slices.users["new users"].tolist() == [True, True, False]
    assert slices.users["heavy users"].tolist() == [False, False, True]


def test_a_later_window_changes_no_slice_of_an_earlier_one() -> None:
    other = [WINDOWS[0], Window(1, 1.0, 2.0, frame(["rare"] * 90))]
    mine = find_slices(WANTED, np.zeros(3), WARM, WINDOWS, CATALOGUE)
    theirs = find_slices(WANTED, np.zeros(3), WARM, other, CATALOGUE)
    for name, mask_F in mine.items.items():
        assert mask_F.tolist() == theirs.items[name].tolist()


def test_impressions_make_an_item_seen_but_not_popular() -> None:
    warm = pl.concat([WARM, frame(["late"] * 500, "impression")])
    slices = find_slices(WANTED, np.zeros(3), warm, WINDOWS, CATALOGUE)
    late = WANTED.item_F.tolist().index("late")
    assert not slices.items["unseen items"][late]
    assert not slices.items["popular items"][late]


def test_unseen_items_are_measured_twice_where_a_method_ranked_them() -> None:
    slices = find_slices(WANTED, np.zeros(3), WARM, WINDOWS, CATALOGUE.with_columns(category=pl.lit("a")))
    narrow = np.array([0, 1, 1, 0, 1])
    model = Outcome(narrow, np.zeros(3), np.zeros(3), np.array([1, 2, -1, 2, 1]))
    found = slices.measured(WANTED, {"fresh": model, "popularity": Outcome(narrow, np.zeros(3), np.zeros(3))})
    assert found["unseen items"]["fresh"].recall_R.tolist() == [0.0, 0.0]
    assert found["unseen items, all on offer"]["fresh"].mrr_R.tolist() == [1.0, 0.5]
    assert list(found["unseen items, all on offer"]) == ["fresh"]
    assert not any(name.startswith("category") for name in found)
