"""The loop as it is lived: the service answers, its users click on what they were shown, a round learns from it.

Nothing is faked but the clock; the encoder is small. No thread runs: the test says when answers are written and when
the service looks for another version.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from core_bench import Shop, make_tiny_encoder, open_shop
from fastapi.testclient import TestClient

from penstock.data.quarantine import list_quarantine
from penstock.data.state import to_micros
from penstock.pipeline.ledger import opened
from penstock.pipeline.online import run_round
from penstock.records import RoundResult
from penstock.serving.app import create_app, open_runtime

SHOWN, ASKED, FORGERS = 6, 75, 6


class Site:
    """A shop's site on the service that production runs, from the end of the log's first part on."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.now = shop, shop.edges[1]
        self.runtime = open_runtime(shop.settings, lambda: self.now)
        self.app = create_app(self.runtime, shop.settings)
        self.client = TestClient(self.app)
        self.answers: dict[str, dict[str, Any]] = {}

    def get(self, path: str) -> dict[str, Any]:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def recommend(self, user: str) -> dict[str, Any]:
        answer = self.client.post("/v1/recommendations", json={"user_id": user, "k": SHOWN})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def send(self, user: str, kind: str, items: list[str], request_id: str) -> None:
        """Events that name an answer, as a site sends them."""
        rows = [
            {"event_id": f"{kind}-{item}-{user}-{to_micros(self.now)}", "user_id": user, "item_id": item, "kind": kind,
             "request_id": request_id, "position": place}
            for place, item in enumerate(items)
        ]  # fmt: skip
        answer = self.client.post("/v1/events", json={"events": rows})
        assert answer.json()["accepted"] == len(rows), answer.text

    def visit(self, user: str, place: int) -> None:
        """A user asks, is shown the answer, and 20 seconds later clicks on what stands at `place`."""
        answer = self.recommend(user)
        items = [item["item_id"] for item in answer["items"]]
        assert len(items) == SHOWN
        self.answers[answer["request_id"]] = {"user": user, "items": items}
        self.send(user, "impression", items, answer["request_id"])
        self.now += timedelta(seconds=20)
        self.send(user, "click", [items[place]], answer["request_id"])

    def forge(self) -> tuple[str, list[str]]:
        """Some users claim that their answers held an item that they did not, and click on it; the item and users."""
        everything = sorted({item for answer in self.answers.values() for item in answer["items"]})
        without = {
            item: {answer["user"]: name for name, answer in self.answers.items() if item not in answer["items"]}
            for item in everything
        }
        item = max(everything, key=lambda one: len(without[one]))
        users = sorted(without[item])[:FORGERS]
        for user in users:
            self.now += timedelta(seconds=7)
            self.send(user, "impression", [item], without[item][user])
            self.send(user, "click", [item], without[item][user])
        return item, users

    def round(self, now: datetime) -> RoundResult:
        """One round, after the service's thread has written what waits."""
        self.app.state.answers.work(self.now)
        result = run_round(self.shop.settings, now)
        assert result is not None
        return result


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The first part of the log has made version 1, promoted by policy; it serves."""
    shop = open_shop(tmp_path, str(make_tiny_encoder(tmp_path / "encoder")), 2)
    site = Site(shop)
    first = site.round(shop.arrive(0))
    assert (first.outcome, first.version) == ("promoted", "1"), first.reason
    assert site.runtime.poll()
    yield site
    site.client.close()
    site.runtime.state.engine.dispose()


def test_what_users_did_with_the_services_answers_makes_the_next_version(site: Site) -> None:
    users = site.shop.part(0)["user_id"].unique().sort().to_list()
    for number in range(ASKED):
        site.now += timedelta(seconds=30 + 11 * (number % 7))
        site.visit(users[number % len(users)], number % SHOWN)
    item, forgers = site.forge()
    visited = ASKED * (SHOWN + 1)
    assert site.get("/v1/status")["status"]["events"]["pending"] == visited + 2 * len(forgers)

    site.now += timedelta(minutes=10)
    second = site.round(site.now)
    assert (second.outcome, second.version) == ("promoted", "2"), second.reason
    assert 0 < second.metrics["prequential_ndcg"] <= 1
    held = list_quarantine(opened(site.shop.settings), None, second.snapshot_id)
    assert [(entry.event or {}).get("kind") for entry in held] == ["click"] * len(forgers)
    assert {(entry.event or {}).get("item_id") for entry in held} == {item}
    assert all("not shown it" in reason for entry in held for reason in entry.reasons)

    asked = users[0]
    assert site.recommend(asked)["version"] == "1"
    assert site.runtime.poll()
    after = site.recommend(asked)
    assert (after["version"], after["digest"]) == ("2", second.bundle_digest)
    site.app.state.answers.work(site.now)
    told = site.get(f"/v1/requests/{after['request_id']}")["explanation"]
    assert told["version"]["number"] == "2"
    assert [item["item_id"] for item in told["request"]["items"]] == [item["item_id"] for item in after["items"]]
    assert site.get("/v1/status")["status"]["events"]["pending"] == 0
