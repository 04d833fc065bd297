"""Requests grouped fast equal requests grouped the obvious way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.data.requests import group_requests
from penstock.errors import DataError
from penstock.records import EVENT_COLUMNS, REQUEST_COLUMNS

START = datetime(2026, 1, 5, tzinfo=UTC)
GAINS = {"impression": 0.0, "history": 0.0, "click": 1.0, "purchase": 3.0, "rating": 1.0, "label": 1.0}


def event(kind: str, item: str, seconds: int = 0, **rest: Any) -> dict[str, Any]:
    at = START + timedelta(seconds=seconds)
    return {"user_id": "u", "item_id": item, "kind": kind, "at": at, "received_at": at} | rest


def group(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    numbered = [{"event_id": f"e{index:03d}"} | row for index, row in enumerate(rows)]
    return group_requests(pl.DataFrame(numbered, schema=EVENT_COLUMNS), GAINS, 4.0).to_dicts()


def test_impressions_in_shown_order_with_their_largest_gain() -> None:
    (request,) = group(
        event("impression", "b", request_id="r", position=1),
        event("impression", "a", request_id="r", position=0),
        event("click", "b", 5, request_id="r"),
        event("purchase", "b", 60, request_id="r"),
        event("click", "elsewhere", 61, request_id="r"),
    )
    assert (request["request_id"], request["user_id"], request["at"]) == ("r", "u", START)
    assert (request["shown"], request["position"]) == (["a", "b"], [0, 1])
    assert (request["relevant"], request["gain"]) == (["b"], [3.0])


def test_a_request_nothing_followed_is_kept() -> None:
    (request,) = group(event("impression", "a", request_id="r", position=0))
    assert (request["shown"], request["relevant"], request["gain"]) == (["a"], [], [])


def test_a_low_rating_is_not_relevant() -> None:
    requests = group(
        event("rating", "a", value=3.5),
        event("rating", "b", value=4.0),
        event("rating", "c"),
        event("history", "d"),
    )
    assert [request["relevant"] for request in requests] == [["b"]]


def test_positives_alone_are_grouped_by_user_and_time() -> None:
    requests = group(
        event("purchase", "a"), event("purchase", "b"), event("purchase", "a"), event("purchase", "c", 1),
        event("purchase", "d", 1, user_id="v"),
    )  # fmt: skip
    micros = int(START.timestamp()) * 1_000_000
    assert [request["request_id"] for request in requests] == [
        f"u@{micros}", f"u@{micros + 1_000_000}", f"v@{micros + 1_000_000}"
    ]  # fmt: skip
    assert requests[0]["relevant"] == ["a", "b"]
    assert requests[0]["shown"] == []


def test_a_purchase_whose_impression_was_earlier_keeps_its_request() -> None:
    (request,) = group(event("purchase", "a", 9, request_id="r"))
    assert (request["request_id"], request["shown"], request["relevant"]) == ("r", [], ["a"])


def test_each_label_is_its_own_request() -> None:
    requests = group(event("label", "up", query="gold rises"), event("label", "up", query="gold soars"))
    assert [(request["request_id"], request["query"], request["relevant"]) for request in requests] == [
        ("e000", "gold rises", ["up"]),
        ("e001", "gold soars", ["up"]),
    ]


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(DataError, match=r"kind stare have no gain, expected one of impression"):
        group(event("stare", "a"))


def test_no_events_no_requests() -> None:
    requests = group_requests(pl.DataFrame(schema=EVENT_COLUMNS), GAINS, 4.0)
    assert requests.is_empty()
    assert requests.schema == REQUEST_COLUMNS


ROWS = st.lists(
    st.builds(
        event,
        kind=st.sampled_from(["impression", "click", "purchase", "rating"]),
        item=st.sampled_from("abcd"),
        seconds=st.integers(0, 2),
        user_id=st.sampled_from("uv"),
        request_id=st.sampled_from([None, "r", "s"]),
        position=st.integers(0, 3),
        value=st.sampled_from([None, 3.0, 4.0]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_equals_the_obvious_loop(rows: list[dict[str, Any]]) -> None:
    fast = {
        request["request_id"]: (set(request["shown"]), dict(zip(request["relevant"], request["gain"], strict=True)))
        for request in group(*rows)
    }
    assert fast == obvious(rows)


def obvious(rows: list[dict[str, Any]]) -> dict[str, tuple[set[str], dict[str, float]]]:
    requests: dict[str, tuple[set[str], dict[str, float]]] = {}
    for row in rows:
        if row["kind"] == "impression" and row["request_id"]:
            requests.setdefault(row["request_id"], (set(), {}))[0].add(row["item_id"])
    with_impressions = set(requests)
    for row in rows:
        gain = GAINS[row["kind"]]
        if row["kind"] == "rating" and (row["value"] or 0) < 4:
            gain = 0.0
        name = row["request_id"] or f"{row['user_id']}@{int(row['at'].timestamp()) * 1_000_000}"
        if gain == 0 or (name in with_impressions and row["item_id"] not in requests[name][0]):
            continue
        relevant = requests.setdefault(name, (set(), {}))[1]
        relevant[row["item_id"]] = max(gain, relevant.get(row["item_id"], 0.0))
    return requests
