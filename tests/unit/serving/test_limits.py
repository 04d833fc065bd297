"""What is turned away at the door, and that nothing that gets in can crash the service or come back altered."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving_fakes import NOW, PARAMS, World, event
from starlette.responses import JSONResponse, Response

from benchmarks.hostile_texts import altered, body_of, open_service, send, texts
from penstock.serving.app import create_app
from penstock.serving.limits import Door, json_depth
from penstock.serving.rates import MAX_CALLERS, Rates
from penstock.settings import load_settings

JSON = {"Content-Type": "application/json"}


def limited(world: World, **changes: Any) -> Any:
    from fastapi.testclient import TestClient

    settings = world.settings.override({f"service.{name}": value for name, value in changes.items()})
    return TestClient(create_app(world.runtime, settings), raise_server_exceptions=False)


def test_a_caller_beyond_its_rate_is_told_when_to_come_again(world: World) -> None:
    client = limited(world, rate_per_s=0.2, rate_burst=3)
    codes = [client.post("/v1/recommendations", json={"k": 1}).status_code for _ in range(3)]
    late = client.post("/v1/recommendations", json={"k": 1})
    assert (codes, late.status_code) == ([200] * 3, 429)
    assert late.headers["Retry-After"] == "5"
    assert "0.2 requests a second, 3 at once" in late.json()["error"]["message"]
    assert late.json()["version"] == "1"
    assert client.get("/healthz").status_code == 200, "probes do not count"
    assert 'penstock_refused_total{reason="too_often"} 1.0' in client.get("/metrics").text


def test_more_requests_than_may_be_answered_at_once(world: World) -> None:
    client = limited(world, max_concurrent=1)
    started, go_on = threading.Event(), threading.Event()
    score = world.scorers["first"].score

    def slow(*args: Any) -> Any:
        started.set()
        assert go_on.wait(60)
        return score(*args)

    world.scorers["first"].score = slow  # type: ignore[method-assign]
    codes: list[int] = []
    first = threading.Thread(target=lambda: codes.append(client.post("/v1/recommendations", json={}).status_code))
    first.start()
    assert started.wait(60)
    busy = client.get("/v1/users")
    assert (busy.status_code, busy.headers["Retry-After"], busy.json()["error"]["code"]) == (503, "1", "busy")
    assert client.get("/readyz").status_code == 200, "a busy service is not a dead one"
    go_on.set()
    first.join()
    assert codes == [200]
    assert client.get("/v1/users").status_code == 200, "the place was given back"


def test_live_differs_from_ready(make_world: Callable[..., World]) -> None:
    client = make_world(champion=None).client
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.headers["Retry-After"]) == (503, "1")


def test_a_body_that_dawdles_is_cut_off() -> None:
    service = load_settings(PARAMS, {}).override({"service.body_timeout_s": 0.02}).service
    sent: list[Any] = []

    def refuse(request: Any, status: int, code: str, message: str) -> Response:
        return JSONResponse({"code": code, "message": message}, status)

    async def never(*_: Any) -> Any:
        await asyncio.sleep(60)

    async def keep(message: Any) -> None:
        sent.append(message)

    door = Door(never, service, refuse)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": headers, "client": ("::1", 5)}
    asyncio.run(door(scope, never, keep))
    assert sent[0]["status"] == 408
    assert b"not complete after 0.02 s" in sent[1]["body"]
    assert door.inside == 0


def test_the_length_is_counted_not_believed(world: World) -> None:
    client = limited(world, max_body_bytes=1000)
    body = b" " * 2000

    def parts() -> Any:
        yield body

    lied = client.post("/v1/events", content=parts(), headers=JSON | {"Content-Length": "10"})
    assert lied.status_code == 413


def test_nesting_beyond_the_limit(world: World) -> None:
    deep = json.dumps(event(1)).encode()[:-1] + b', "query": ' + b"[" * 16 + b"]" * 16 + b"}"
    answer = world.client.post("/v1/events", content=deep, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "too_deep")
    assert "nested 17 deep, at most 16" in answer.json()["error"]["message"]
    harmless = event(2) | {"query": "[" * 100 + '"\\"[['}
    assert world.client.post("/v1/events", json=harmless).status_code == 202, "brackets within text are text"


def slow_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(slow_depth, value.values()), default=0)
    return 1 + max(map(slow_depth, value), default=0) if isinstance(value, list) else 0


@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.sampled_from('[]{}"\\ aé')),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.sampled_from('[]{}"\\a'), max_size=3), inner, max_size=3)
        ),
    ),
    st.booleans(),
)
@example(['\\"['], True)
def test_depth_is_that_of_the_parsed_value(value: Any, ascii_only: bool) -> None:
    assert json_depth(json.dumps(value, ensure_ascii=ascii_only).encode()) == slow_depth(value)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.floats(0.5, 20), st.integers(1, 10))
def test_no_caller_comes_more_often_than_its_bucket_holds(gaps_s: list[float], per_s: float, burst: int) -> None:
    now = [0.0]
    rates = Rates(per_s, burst, lambda: now[0])
    came = 0
    for gap_s in gaps_s:
        now[0] += gap_s
        wait_s = rates.wait_s("a")
        came += wait_s == 0
        assert came <= burst + per_s * now[0] + 1e-6
        if wait_s > 0:
            now[0] += wait_s + 1e-9
            assert rates.wait_s("a") == 0, "whoever waits as told gets in"
            came += 1
    assert rates.wait_s("b") == 0, "one caller's rate is not another's"


def test_callers_are_remembered_up_to_a_number() -> None:
    rates = Rates(1.0, 1, lambda: 0.0)
    for number in range(MAX_CALLERS + 50):
        rates.wait_s(str(number))
    assert len(rates) == MAX_CALLERS


def test_hostile_texts_are_refused_or_come_back_as_sent(tmp_path: Path) -> None:
    app, journal = open_service(tmp_path)
    accepted, outcomes = asyncio.run(send(app, texts(250, 11, long_share=0.05)))
    assert altered(journal, accepted) == []
    assert {"accepted", "refused, 413", "refused, 422"} <= set(outcomes), outcomes
    assert outcomes["accepted"] > 50
    journal.state.engine.dispose()


def test_an_altered_text_would_be_noticed(tmp_path: Path) -> None:
    app, journal = open_service(tmp_path)
    accepted, _ = asyncio.run(send(app, texts(6, 2)))
    assert accepted
    first = next(iter(accepted))
    accepted[first] = accepted[first] | {"query": "something else"}
    assert altered(journal, accepted | {"lost": accepted[first]}) == [first, "lost"]
    journal.state.engine.dispose()


def test_the_hostile_texts_hold_what_they_promise() -> None:
    some = list(texts(3000, 7))
    seen = Counter(mark for text in some for mark in ("\0", "\ud800", "\u202e") if mark in text)
    assert min(seen[mark] for mark in ("\0", "\ud800", "\u202e")) > 20
    assert max(map(len, some)) > 1_000_000
    assert all(body_of({"query": text}, escaped) for text in some[:50] for escaped in (True, False))


TEXT = st.text(st.characters(), max_size=300)


@hypothesis_settings(max_examples=60, deadline=None)
@given(query=TEXT, item=TEXT, category=TEXT, k=st.integers(-3, 60))
def test_any_text_anywhere_is_answered(query: str, item: str, category: str, k: int) -> None:
    client = _shared_client()
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/recommendations", {"query": query, "k": k}),
        ("/v1/recommendations", {"user_id": item, "filters": {"category": [category], "exclude": [item]}}),
        ("/v1/recommendations", {"history": [{"item_id": item, "kind": category}]}),
        ("/v1/classifications", {"texts": [query, item]}),
        ("/v1/challengers/1/reject", {"actor": query, "reason": item}),
    ]
    for path, body in bodies:
        answer = client.post(path, content=body_of(body, escaped=True), headers=JSON)
        assert answer.status_code in (200, 409, 422), (path, body, answer.text)


_CLIENTS: list[Any] = []


def _shared_client() -> Any:
    """One service for all examples."""
    if not _CLIENTS:
        import tempfile

        from fastapi.testclient import TestClient
        from serving_fakes import FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, loader

        from penstock.serving.runtime import Runtime

        registry = FakeRegistry(Path(tempfile.mkdtemp()))
        runtime = Runtime(registry, FakeJournal(), loader({"first": FakeScorer("first")}), 60.0, None,
                          FakeDecisions(registry), lambda: NOW)  # fmt: skip
        registry.serve("1", "first")
        assert runtime.poll()
        app = create_app(runtime, load_settings(PARAMS, {}))
        _CLIENTS.append(TestClient(app, raise_server_exceptions=False))
    return _CLIENTS[0]
