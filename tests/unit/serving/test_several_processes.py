"""Two services over one state database, as two processes are: what one takes in, the other's next answer knows."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, event
from whole_bench import Whole, bring_up

from penstock.data.ends import Ends
from penstock.data.journal import Journal
from penstock.data.posted_items import PostedItems
from penstock.data.posted_items import table as posted_items
from penstock.data.state import events
from penstock.errors import StateError
from penstock.registry.promotion import approve, promote
from penstock.registry.tables import promotions
from penstock.serving import runtime as runtime_module
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.runtime import Runtime

Bodies = dict[str, Any]
PLAIN: Bodies = {"user_id": "u1", "k": 3}
ASKED: Bodies = PLAIN | {"query": "a kettle"}


def another(whole: Whole) -> Runtime:
    """Its poller would sleep for ten minutes, were it not woken."""
    ends = Ends(whole.state, (events.c.seq, posted_items.c.seq, promotions.c.id)).read
    journal = Journal(whole.state, whole.settings.data)
    decisions, posted = Decisions(whole.registry, whole.state), PostedItems(whole.state)
    return Runtime(whole.registry, journal, bring_up, 600.0, whole.state, decisions, lambda: NOW, posted, ends)


def serve(whole: Whole, name: str) -> str:
    number = whole.register(name)
    approve(whole.registry, whole.state, number, "Ada", "fine", NOW)
    pointer = whole.registry.champion_pointer()
    promote(whole.registry, whole.state, number, "Ada", "fine", None if pointer is None else pointer.number, NOW)
    return number


@pytest.fixture
def two(whole: Whole) -> Iterator[tuple[Whole, Runtime, TestClient]]:
    """The service of `whole`, and a second one; no poller runs."""
    serve(whole, "one")
    runtime = another(whole)
    whole.runtime.poll()
    runtime.poll()
    client = TestClient(create_app(runtime, whole.settings))
    yield whole, runtime, client
    client.close()


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end_s, "a minute has gone by"
        time.sleep(0.005)


@pytest.mark.parametrize("body", [PLAIN, ASKED], ids=["on the event loop", "in a thread"])
def test_an_event_that_one_took_moves_the_next_answer_of_the_other(
    two: tuple[Whole, Runtime, TestClient], body: Bodies
) -> None:
    whole, _, client = two
    before = client.post("/v1/recommendations", json=body).json()
    assert not before["known_user"]
    for number in range(3):
        assert whole.client.post("/v1/events", json=event(number, item="i7")).json()["accepted"] == 1
    after = client.post("/v1/recommendations", json=body).json()
    assert after["known_user"]
    assert after["items"] == whole.client.post("/v1/recommendations", json=body).json()["items"] != before["items"]


def test_an_answer_does_not_wait_for_an_import(
    two: tuple[Whole, Runtime, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, runtime, client = two
    monkeypatch.setattr(runtime_module, "AT_ONCE", 5)
    whole.runtime.journal.append([event(number) | {"at": NOW} for number in range(6)], NOW)
    assert not client.post("/v1/recommendations", json=PLAIN).json()["known_user"]
    runtime.poll()
    assert client.post("/v1/recommendations", json=PLAIN).json()["known_user"]


def test_a_promotion_by_one_wakes_the_poller_of_the_other(two: tuple[Whole, Runtime, TestClient]) -> None:
    whole, runtime, client = two
    with client:
        number = serve(whole, "two")
        client.post("/v1/recommendations", json=PLAIN)
        until(lambda: runtime.current().version == number)


def test_an_item_that_one_took_is_soon_known_to_the_other(two: tuple[Whole, Runtime, TestClient]) -> None:
    whole, runtime, client = two
    with client:
        PostedItems(whole.state).append([{"item_id": "new", "title": "Wool blanket", "category": "books"}], NOW)
        client.post("/v1/recommendations", json=PLAIN)
        until(lambda: "new" in runtime.current().scorer.state.row_of)


NAMED: list[tuple[str, Bodies | None]] = [
    ("/v1/recommendations", {"history": [{"item_id": "new"}], "k": 3}),
    ("/v1/recommendations", {"user_id": "u1", "k": 3, "filters": {"category": ["blankets"]}}),
    ("/v1/items/new/similar", None),
]


@pytest.mark.parametrize(("path", "body"), NAMED, ids=["in a history", "by its category", "by its neighbours"])
def test_an_item_that_one_took_is_not_unknown_to_the_other(
    two: tuple[Whole, Runtime, TestClient], path: str, body: Bodies | None
) -> None:
    whole, _, client = two

    def ask() -> int:
        return (client.get(path) if body is None else client.post(path, json=body)).status_code

    assert ask() in (404, 422)
    PostedItems(whole.state).append([{"item_id": "new", "title": "Wool blanket", "category": "blankets"}], NOW)
    assert ask() == 200


def test_a_catalogue_that_one_took_is_not_waited_for(
    two: tuple[Whole, Runtime, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, client = two
    monkeypatch.setattr(runtime_module, "ITEMS_AT_ONCE", 5)
    rows = [{"item_id": f"new-{number}", "title": "Wool blanket"} for number in range(6)]
    PostedItems(whole.state).append(rows, NOW)
    assert client.get("/v1/items/new-0/similar").status_code == 404


def test_a_journal_that_cannot_be_read_holds_no_answer_up(
    two: tuple[Whole, Runtime, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(since_seq: int, limit: int) -> Any:
        raise StateError("the disk is away")

    whole, runtime, client = two
    monkeypatch.setattr(runtime.journal, "read", gone)
    whole.client.post("/v1/events", json=event(1))
    assert client.post("/v1/recommendations", json=PLAIN).status_code == 200
    assert "the disk is away" in str(runtime.poll_error)
