from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from penstock.data.posted_items import PostedItems, with_posted
from penstock.data.state import open_state
from penstock.records import CATALOGUE_COLUMNS

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_items_outlive_the_process_and_come_once_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    first = {"item_id": "a", "title": "A lamp", "attributes": '{"brand": "ours"}'}
    posted = PostedItems(open_state(url))
    assert posted.append([first, {"item_id": "b", "title": "A bowl", "published_at": NOW}, first], NOW) == 2
    assert posted.append([first | {"title": "Another title"}], NOW) == 0
    again = PostedItems(open_state(url))
    items, seq = again.read(0)
    assert items.schema == pl.Schema(CATALOGUE_COLUMNS)
    assert items.select("item_id", "title", "published_at", "attributes").rows() == [
        ("a", "A lamp", NOW, '{"brand": "ours"}'),
        ("b", "A bowl", NOW, None),
    ]
    nothing, same = again.read(seq)
    assert (len(nothing), same) == (0, seq)


def test_a_catalogue_grows_by_what_it_does_not_have(tmp_path: Path) -> None:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    catalogue = pl.DataFrame([{"item_id": "a", "title": "Imported"}], schema=CATALOGUE_COLUMNS)
    assert with_posted(catalogue, state).equals(catalogue)
    PostedItems(state).append([{"item_id": "a", "title": "Posted"}, {"item_id": "c", "title": "New"}], NOW)
    assert with_posted(catalogue, state).select("item_id", "title").rows() == [("a", "Imported"), ("c", "New")]
