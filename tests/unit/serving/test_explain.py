"""An answer explained: as of its moment, whatever happened since."""

import shutil
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from serving_fakes import NOW, event
from whole_bench import Whole, bring_up

from penstock.data.state import rounds, snapshots, to_micros
from penstock.errors import DataError
from penstock.inference.scorer import UserContext
from penstock.serving.answer_log import AnswerLog, shown_items
from penstock.serving.explain import explain

ITEMS = ("i4", "i7", "i11")


def log_of(whole: Whole) -> AnswerLog:
    """The service's own log: what its routes put answers into."""
    return whole.client.app.state.answers  # type: ignore[attr-defined, no-any-return]


def told(whole: Whole, request_id: str, influence: bool = True) -> dict[str, Any]:
    return explain(whole.state, whole.registry, request_id, influence, bring_up)


@pytest.fixture
def asked(whole: Whole) -> str:
    """A request of a user with a past, answered by the first version; then the world moves on."""
    number = whole.register("one")
    whole.runtime.decisions.approve(number, "Ada", "the first one", NOW)
    past = [event(n, item=item, at=NOW - timedelta(minutes=30 - n)) for n, item in enumerate(ITEMS)]
    others = [event(10 + n, user=f"u{n}", item=f"i{n % 5}", at=NOW - timedelta(hours=1)) for n in range(2, 8)]
    whole.client.post("/v1/events", json={"events": past})
    whole.runtime.poll()
    whole.client.post("/v1/events", json={"events": others[:5]})
    answer = whole.client.post("/v1/recommendations", json={"user_id": "u1", "k": 5}).json()
    shown = answer["items"][0]["item_id"]
    log_of(whole).flush()
    then = [
        event(20, item=shown) | {"request_id": answer["request_id"], "position": 0},
        event(21, item="i20"),
        event(22, user="u9", item="i4"),
    ]
    whole.client.post("/v1/events", json={"events": then})
    second = whole.register("two")
    whole.runtime.decisions.approve(second, "Grace", "better", NOW)
    whole.runtime.poll()
    return str(answer["request_id"])


def test_it_leads_to_version_data_gates_and_approver(whole: Whole, asked: str) -> None:
    found = told(whole, asked, influence=False)
    assert (found["version"]["number"], found["version"]["data_sha256"]) == ("1", "d" * 64)
    assert found["version"]["answered_digest"] == found["version"]["digest"]
    assert found["version"]["status"] == "retired", "as it is now"
    assert (found["gates"]["verdict"], [gate["name"] for gate in found["gates"]["gates"]]) == ("passed", ["ndcg"])
    assert found["decision"]["approver"] == "Ada"
    assert found["decision"]["approval"]["reason"] == "the first one"
    assert found["decision"]["promotion"]["number"] == "1"
    assert "influence" not in found


def test_what_the_service_answered_is_what_impressions_are_held_against(whole: Whole, asked: str) -> None:
    found = shown_items(whole.state, [asked, "nobody's"])
    shown = [one["item_id"] for one in told(whole, asked, influence=False)["request"]["items"]]
    assert found["item_id"].to_list() == shown
    assert set(found.select("request_id", "user_id").rows()) == {(asked, whole.runtime.journal.name_of("u1"))}


def test_the_past_is_the_one_it_was_ranked_by_and_what_followed_is_told(whole: Whole, asked: str) -> None:
    found = told(whole, asked)
    assert [one["item_id"] for one in found["history"]] == list(ITEMS)
    assert [(one["kind"], one["position"]) for one in found["followed"]] == [("click", 0)]
    assert found["followed"][0]["item_id"] == found["request"]["items"][0]["item_id"]


def test_the_influence_is_the_difference_that_leaving_an_item_out_makes(whole: Whole, asked: str) -> None:
    found = told(whole, asked)
    influence = found["influence"]
    assert influence["same_scores"], influence["largest_difference"]
    assert influence["past_events"] == 3
    assert {one["item_id"] for one in influence["items"]} == set(ITEMS)
    sizes = [one["mean_change"] for one in influence["items"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0

    # The slow obvious way: a scorer that saw just what had come in by then, asked twice.
    scorer = bring_up(whole.registry.bundle_dir(whole.registry.version("1")))
    scorer.observe(whole.runtime.journal.read(0, 8).drop("seq"))
    items = [one["item_id"] for one in found["request"]["items"]]
    past = [(item, "click", NOW - timedelta(minutes=30 - n)) for n, item in enumerate(ITEMS)]
    stored = whole.runtime.journal.name_of("u1")
    for left_out in influence["items"]:
        rest = tuple(one for one in past if one[0] != left_out["item_id"])
        whole_by = {one.item_id: one.score for one in scorer.rank(UserContext(stored), items, NOW, 5)}
        rest_by = {one.item_id: one.score for one in scorer.rank(UserContext(history=rest), items, NOW, 5)}
        by_hand = [whole_by[item] - rest_by[item] for item in items]
        assert np.allclose([left_out["changes"][item] for item in items], by_hand)
    features = found["features"][items[0]]
    assert features["history_size"] == pytest.approx(np.log1p(3), abs=1e-3)


def test_an_answer_outlives_the_bundle_that_made_it(whole: Whole, asked: str) -> None:
    shutil.rmtree(whole.registry.bundle_dir(whole.registry.version("1")))
    found = told(whole, asked)
    assert "influence" not in found
    assert found["not_measured"].startswith("version 1's bundle is not kept any more")
    assert found["decision"]["approver"] == "Ada"
    assert [one["item_id"] for one in found["history"]] == list(ITEMS)
    assert whole.client.get(f"/v1/requests/{asked}?influence=true").status_code == 200


def test_a_past_that_came_with_the_request_is_explained_too(whole: Whole, asked: str) -> None:
    body = {"history": [{"item_id": "i3", "kind": "click", "at": (NOW - timedelta(hours=1)).isoformat()}], "k": 3}
    answer = whole.client.post("/v1/recommendations", json=body).json()
    log_of(whole).flush()
    found = told(whole, answer["request_id"])
    assert found["version"]["number"] == "2"
    assert found["decision"]["approver"] == "Grace"
    assert [one["item_id"] for one in found["history"]] == ["i3"]
    assert found["influence"]["same_scores"]
    assert [one["item_id"] for one in found["influence"]["items"]] == ["i3"]


def test_the_rounds_are_those_whose_learning_it_carries(whole: Whole, asked: str) -> None:
    with whole.state.write() as conn:
        for place, (name, outcome) in enumerate([("zero", "promoted"), ("bad", "refused"), ("one", "promoted")]):
            manifest = f'{{"sha256": "{name}", "rows": {place}}}'
            row = {"snapshot_id": f"s-{name}", "status": "learned", "manifest": manifest, "window_end": 0}
            conn.execute(sa.insert(snapshots).values(**row, created_at=0))
            ran = {"round_id": name, "snapshot_id": f"s-{name}", "status": "done", "outcome": outcome, "started_at": 0}
            conn.execute(sa.insert(rounds).values(**ran, ended_at=to_micros(NOW) + place))
    carried = told(whole, asked, influence=False)["rounds"]
    assert [(one["round_id"], one["data_sha256"], one["rows"]) for one in carried] == [
        ("zero", "zero", 0),
        ("one", "one", 2),
    ]


def test_over_http_and_for_an_id_that_nobody_knows(whole: Whole, asked: str) -> None:
    found = whole.client.get(f"/v1/requests/{asked}").json()["explanation"]
    assert found["request"]["request_id"] == asked
    assert "influence" not in found
    assert whole.client.get(f"/v1/requests/{asked}?influence=true").json()["explanation"]["influence"]["same_scores"]
    missing = whole.client.get("/v1/requests/nope")
    assert missing.status_code == 404
    assert "no answer with request_id 'nope' is kept" in missing.json()["error"]["message"]
    with pytest.raises(DataError, match="X-Request-Id"):
        told(whole, "nope")


def test_a_request_that_failed_is_kept_as_such(whole: Whole, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    def broken(*arguments: object) -> None:
        raise RuntimeError("the scorer is broken")

    monkeypatch.setattr(whole.runtime.current().scorer, "score", broken)
    client = TestClient(whole.client.app, raise_server_exceptions=False)
    answer = client.post("/v1/recommendations", json={"user_id": "u1"})
    assert answer.status_code == 500
    log_of(whole).flush()
    found = told(whole, answer.headers["X-Request-Id"])
    assert found["request"]["failed"]
    assert found["version"]["number"] == "2"
