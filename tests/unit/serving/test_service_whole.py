"""The service over the real state database, journal and registry; only the model is a fake."""

from datetime import timedelta

from serving_fakes import NOW, FakeScorer, event
from whole_bench import Whole

from penstock.registry.promotion import approve, promote


def test_from_the_first_event_to_the_second_version(whole: Whole) -> None:
    client = whole.client
    first = whole.register("one")
    approve(whole.registry, whole.state, first, "Ada", "the first one", NOW)
    promote(whole.registry, whole.state, first, "Ada", "the first one", None, NOW)
    early = event(0, at=NOW - timedelta(hours=1))
    assert client.post("/v1/events", json=early).json()["accepted"] == 1
    assert client.get("/readyz").status_code == 503
    assert whole.runtime.poll()
    assert client.get("/readyz").json()["version"] == first

    batch = {"events": [event(1), event(1), event(2, kind="stare"), event(3, at=NOW + timedelta(hours=1))]}
    answer = client.post("/v1/events", json=batch).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert [row["index"] for row in answer["rejected"]] == [2, 3]
    assert "clock" in answer["rejected"][1]["reason"]
    served = whole.runtime.current().scorer
    assert isinstance(served, FakeScorer)
    assert served.seen == ["e0", "e1"], "what came before the load, and after it"

    second = whole.register("two")
    (challenger,) = client.get("/v1/challengers").json()["challengers"]
    assert (challenger["number"], challenger["passed"]) == (second, True)
    assert client.get(challenger["report"]).text == "<h1>two</h1>"
    decided = client.post(f"/v1/challengers/{second}/approve", json={"actor": "Grace", "reason": "better"}).json()
    assert decided["version"] == second
    again = client.post(f"/v1/challengers/{second}/approve", json={"actor": "Grace", "reason": "better"})
    assert again.status_code == 409

    status = client.get("/v1/status").json()["status"]
    assert status["champion"]["version"] == second
    assert status["champion"]["data_sha256"] == "d" * 64
    assert status["service"]["version"] == second
    assert status["events"] == {"pending": 2, "total": 2}
    assert status["challengers"] == []
    assert "penstock_events_pending 2.0" in client.get("/metrics").text


def test_a_requester_cannot_approve_its_own_and_a_rejection_is_final(whole: Whole) -> None:
    number = whole.register("one")
    path = f"/v1/challengers/{number}"
    own = whole.client.post(f"{path}/approve", json={"actor": "penstock", "reason": "mine"})
    assert own.status_code == 409
    assert "somebody else" in own.json()["error"]["message"]
    assert whole.client.post(f"{path}/reject", json={"actor": "Ada", "reason": "odd"}).status_code == 200
    late = whole.client.post(f"{path}/approve", json={"actor": "Ada", "reason": "changed my mind"})
    assert late.status_code == 409
    assert whole.registry.champion_pointer() is None


def test_an_altered_bundle_leaves_the_old_version_serving(whole: Whole) -> None:
    number = whole.register("one")
    whole.runtime.decisions.approve(number, "Ada", "first", NOW)
    whole.runtime.poll()
    second = whole.register("two")
    whole.runtime.decisions.approve(second, "Ada", "second", NOW)
    folder = whole.registry.bundle_dir(whole.registry.version(second))
    (folder / "weights.bin").write_text("tampered")
    whole.runtime.poll()
    service = whole.client.get("/v1/status").json()["status"]["service"]
    assert (service["version"], service["failed"]) == (number, 1)
    assert "expects" in service["failure"]["error"]
    assert whole.client.post("/v1/recommendations", json={}).json()["version"] == number
