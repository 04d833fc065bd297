from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import polars as pl
import pytest

from penstock.errors import DataError, PenstockError
from penstock.pipeline.replay import Player, Tastes, Visit, paced, visits
from penstock.records import EVENT_COLUMNS

START = datetime(2026, 1, 1, tzinfo=UTC)


def log(*rows: dict[str, Any]) -> pl.DataFrame:
    base = dict.fromkeys(EVENT_COLUMNS)
    events = [base | {"event_id": f"e{n}", "kind": "click", "received_at": START} | row for n, row in enumerate(rows)]
    return pl.DataFrame(events, schema=EVENT_COLUMNS)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


TWO = log(
    {"user_id": "b", "item_id": "i2", "at": at(90), "request_id": "r2", "query": "tent"},
    {"user_id": "a", "item_id": "i1", "at": at(0), "request_id": "r1", "kind": "impression", "position": 0},
    {"user_id": "a", "item_id": "i1", "at": at(5), "request_id": "r1"},
)


class Service:
    """Answers as the service does, and keeps what it was sent."""

    def __init__(self, events_status: int = 202) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.events_status = events_status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        self.bodies.append((request.url.path, body))
        if request.url.path == "/v1/recommendations":
            items = [{"item_id": f"i{n}", "category": "outdoor" if n < 2 else "books"} for n in range(4)]
            return httpx.Response(200, json={"request_id": "req", "version": "7", "items": items})
        if self.events_status != 202:
            return httpx.Response(self.events_status, json={"error": {"message": "no"}})
        return httpx.Response(202, json={"accepted": len(body["events"]), "rejected": []})


def player(handler: Callable[[httpx.Request], httpx.Response], tastes: Tastes | None = None) -> Player:
    return Player(httpx.Client(base_url="http://service", transport=httpx.MockTransport(handler)), tastes)


def test_a_log_becomes_visits_in_time_order() -> None:
    found = visits(TWO)
    assert [(one.user_id, one.after_s, len(one.events), one.query) for one in found] == [
        ("a", 0.0, 2, None), ("b", 90.0, 1, "tent")
    ]  # fmt: skip


def test_a_log_without_requests_groups_by_user_and_minute() -> None:
    rows = [{"user_id": "a", "item_id": "i1", "at": at(s)} for s in (1, 30, 70)]
    assert [len(one.events) for one in visits(log(*rows))] == [2, 1]


def test_an_empty_log_says_so() -> None:
    with pytest.raises(DataError, match="no event"):
        visits(log())


def test_the_logs_events_go_out_at_todays_time_under_new_names() -> None:
    service = Service()
    playing = player(service)
    for visit in visits(TWO):
        playing.play(visit)
    (_, asked), (_, first), (_, asked_b), (_, second) = service.bodies
    assert asked == {"user_id": "a", "k": 10}
    assert asked_b["query"] == "tent"
    events = first["events"] + second["events"]
    assert [(event["user_id"], event["item_id"], event["kind"]) for event in events] == [
        ("a", "i1", "impression"), ("a", "i1", "click"), ("b", "i2", "click")
    ]  # fmt: skip
    assert len({event["event_id"] for event in events}) == 3
    assert not {event["event_id"] for event in events} & {"e0", "e1", "e2"}
    assert events[0]["request_id"] == events[1]["request_id"] != events[2]["request_id"]
    assert datetime.fromisoformat(events[0]["at"]) - datetime.now(UTC) < timedelta(minutes=1)
    assert (playing.played.asked, playing.played.clicks, playing.played.accepted) == (2, 2, 3)
    assert playing.played.versions == {"7": 2}
    assert playing.played.quantile_ms(0.5) is not None


def test_a_simulated_visitor_clicks_on_what_was_shown_by_taste() -> None:
    catalogue = pl.DataFrame({"item_id": ["i1", "i2"], "category": ["outdoor", "books"]})
    likes_outdoor = log(*[{"user_id": "a", "item_id": "i1", "at": at(n)} for n in range(200)])
    service = Service()
    playing = player(service, Tastes(likes_outdoor, catalogue, 7))
    for _ in range(200):
        playing.play(Visit("a", 0.0, None, ()))
    sent = [event for path, body in service.bodies if path == "/v1/events" for event in body["events"]]
    clicks = [event["item_id"] for event in sent if event["kind"] == "click"]
    assert {event["request_id"] for event in sent} == {"req"}, "bound to the answer that was shown"
    assert sum(event["kind"] == "impression" for event in sent) == 800
    assert set(clicks) == {"i0", "i1"}, "nobody in the log ever chose a book"
    assert clicks.count("i0") > clicks.count("i1") > 20, "further down is looked at less"


def test_the_pace_follows_the_rate_or_the_log() -> None:
    now_s, slept = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        slept.append(round(seconds, 3))
        now_s += seconds

    found = visits(TWO)
    assert len(list(paced(found, 2.0, None, lambda: now_s, sleep))) == 2
    assert slept == [0.5]
    slept.clear()
    list(paced(found, None, 30.0, lambda: now_s, sleep))
    assert slept == [3.0], "90 s of the log at thirty times its speed"


def test_failures_are_counted_and_a_refusal_ends_it() -> None:
    broken = player(Service(events_status=500))
    broken.play(visits(TWO)[0])
    assert broken.played.failures == {"status 500": 1}

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    away = player(gone)
    away.play(visits(TWO)[0])
    assert away.played.failures == {"ConnectError": 1}
    with pytest.raises(PenstockError, match=r"^http://service/v1/events: .*; PENSTOCK_TOKEN takes a feeder's"):
        player(Service(events_status=401)).play(visits(TWO)[0])
