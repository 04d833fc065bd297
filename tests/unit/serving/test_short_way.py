"""The short way answers and refuses as the framework's way does, and stands aside for what takes long."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.responses import Response
from serving_fakes import NOW, World, event

from penstock.serving import api
from penstock.serving.recommender import Recommender
from penstock.serving.short_way import ShortWay

JSON = {"Content-Type": "application/json"}
BODIES: list[dict[str, Any]] = [
    {},
    {"user_id": "u1", "k": 4},
    {"user_id": "nobody"},
    {"user_id": "u1", "filters": {"exclude": ["i1", "no such item"], "exclude_seen": True}},
    {"history": [{"item_id": "i3"}, {"item_id": "i4", "kind": "purchase", "at": NOW.isoformat()}], "k": 7},
    {"user_id": "u1", "query": "a kettle"},
    {"user_id": "u1", "filters": {"category": ["books"]}},
]
REFUSED: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"k": 1e400}',
    b'{"k": NaN}',
    b'{"k": "3"}',
    b'{"k": 0}',
    b'{"k": 51}',
    b'{"k": 123456789012345678901234567890}',
    b'{"user_id": "\\ud800"}',
    b'{"user_id": "\xff"}',
    b'{"user_id": " "}',
    b'{"colour": 1}',
    b'{"user_id": "u1", "history": []}',
    b'{"history": [{"item_id": "unheard of"}]}',
    b'{"filters": {"category": ["unheard of"]}}',
    b'{"history": [{"item_id": "i1", "at": "2026-03-01T09:30:00"}]}',
]


def both(make_world: Callable[..., World]) -> list[World]:
    """A service with the short way, and one without."""
    worlds = [make_world(), make_world()]
    routes = worlds[1].client.app.router.routes  # type: ignore[attr-defined]
    assert [isinstance(route, ShortWay) for route in routes[:3]] == [True, True, False]
    del routes[:2]
    for world in worlds:
        for number in range(4):
            world.client.post("/v1/events", json=event(number, user="u1", item=f"i{number + 1}"))
    return worlds


def test_both_ways_give_the_same_answer(make_world: Callable[..., World]) -> None:
    short, long = both(make_world)
    for body in BODIES:
        answers = [world.client.post("/v1/recommendations", json=body) for world in (short, long)]
        assert [answer.status_code for answer in answers] == [200, 200], body
        contents = [answer.json() for answer in answers]
        for content, answer in zip(contents, answers, strict=True):
            assert content.pop("request_id") == answer.headers.pop("X-Request-Id")
            assert (
                api.Recommendations.model_validate(content | {"request_id": "r"}).model_dump(exclude={"request_id"})
                == content
            ), "every field of the contract and no other"
        assert contents[0] == contents[1]
        assert dict(answers[0].headers) == dict(answers[1].headers)


def test_both_ways_refuse_in_the_same_words(make_world: Callable[..., World]) -> None:
    worlds = both(make_world)
    for content in REFUSED:
        answers = [world.client.post("/v1/recommendations", content=content, headers=JSON) for world in worlds]
        assert answers[0].status_code == answers[1].status_code == 422, content
        assert answers[0].json()["error"] == answers[1].json()["error"], content


def test_both_ways_take_the_same_events(make_world: Callable[..., World]) -> None:
    worlds = both(make_world)
    bodies: list[Any] = [
        event(7),
        event(7),
        {"events": [event(8), event(7), event(9, item="nobody's"), event(10) | {"kind": "unheard of"}]},
        event(11) | {"value": 2.5, "position": 3, "propensity": 0.25, "query": "kettle"},
    ]
    for body in bodies:
        answers = [world.client.post("/v1/events", json=body) for world in worlds]
        assert [answer.status_code for answer in answers] == [202, 202], body
        contents = [answer.json() for answer in answers]
        for content, answer in zip(contents, answers, strict=True):
            assert content.pop("request_id") == answer.headers.pop("X-Request-Id")
        assert contents[0] == contents[1]
        assert dict(answers[0].headers) == dict(answers[1].headers)
    journals = [world.journal.read(0, 100).drop("received_at") for world in worlds]
    assert journals[0].equals(journals[1])
    assert len(journals[0]) > 6


def test_both_ways_refuse_events_in_the_same_words(make_world: Callable[..., World]) -> None:
    worlds = both(make_world)
    many = {"events": [event(number) for number in range(1001)]}
    refused: list[Any] = [
        {}, {"events": []}, {"events": [1]}, event(1) | {"at": "2026-03-01T09:30:00"}, event(1) | {"value": "much"},
        event(1) | {"position": -1}, event(1) | {"colour": 1}, {"events": [event(1)], "more": 1}, [event(1)], None,
        many,
    ]  # fmt: skip
    raw = [b"", b"{", b'{"event_id": "\\ud800"}', b'{"value": NaN}', b'{"value": 1e999}', b"\xff"]
    for content in [*(json.dumps(body).encode() for body in refused), *raw]:
        answers = [world.client.post("/v1/events", content=content, headers=JSON) for world in worlds]
        assert answers[0].status_code == answers[1].status_code == 422, content[:80]
        assert answers[0].json()["error"] == answers[1].json()["error"], content[:80]


def test_the_event_loop_goes_on_while_events_are_kept(world: World) -> None:
    append, kept, go_on, codes = world.journal.append, threading.Event(), threading.Event(), list[int]()

    def slow(*arguments: Any) -> Any:
        kept.set()
        assert go_on.wait(20)
        return append(*arguments)

    world.journal.append = slow  # type: ignore[method-assign]
    tell = threading.Thread(target=lambda: codes.append(world.client.post("/v1/events", json=event(1)).status_code))
    tell.start()
    assert kept.wait(20)
    assert world.client.get("/healthz").status_code == 200
    assert world.client.post("/v1/recommendations", json={}).status_code == 200
    go_on.set()
    tell.join()
    assert codes == [202]


def test_what_takes_long_leaves_the_event_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, threads = Recommender.answer, list[str]()

    def noted(self: Recommender, request: Request, body: api.RecommendationRequest) -> Response:
        threads.append(threading.current_thread().name)
        return answer(self, request, body)

    monkeypatch.setattr(Recommender, "answer", noted)
    for body in ({"user_id": "u1"}, {"query": "a kettle"}, {"filters": {"category": ["books"]}}):
        assert world.client.post("/v1/recommendations", json=body).status_code == 200
    assert ["worker" in name for name in threads] == [False, True, True]


def test_a_version_that_is_busy_is_waited_for_and_the_event_loop_goes_on(world: World) -> None:
    served, codes = world.runtime.current(), list[int]()
    ask = threading.Thread(target=lambda: codes.append(world.client.post("/v1/recommendations", json={}).status_code))
    with served.lock:
        ask.start()
        assert world.client.get("/healthz").status_code == 200, "the event loop is free"
        assert codes == []
    ask.join()
    assert codes == [200]


def test_an_answer_waits_for_the_seeing_of_events_not_for_the_reading(world: World) -> None:
    served, read = world.runtime.current(), world.journal.read
    held: list[bool] = []

    def noted(since_seq: int, limit: int) -> Any:
        held.append(served.lock.locked())
        return read(since_seq, limit)

    world.journal.read = noted  # type: ignore[method-assign]
    world.client.post("/v1/events", json=event(1))
    assert served.seq == 1
    assert held == [False]


def test_more_at_once_than_may_be_are_turned_away(make_world: Callable[..., World]) -> None:
    app = make_world(changes={"service.max_concurrent": 2}).client.app

    async def at_once() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.post("/v1/recommendations", json={}) for _ in range(5)))

    answers = asyncio.run(at_once())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 503} == {"1"}
