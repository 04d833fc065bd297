import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from serving_fakes import NOW, World, digest_of, event

JSON = {"Content-Type": "application/json"}


def titles(answer: dict) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_every_answer_names_version_digest_and_request(world: World) -> None:
    client = world.client
    answers = [
        client.post("/v1/recommendations", json={"user_id": "u1"}),
        client.post("/v1/events", json=event(1)),
        client.get("/v1/items/i1/similar"),
        client.get("/v1/users"),
        client.get("/v1/challengers"),
        client.get("/healthz"),
        client.get("/readyz"),
        client.post("/v1/classifications", json={"texts": ["a"]}),
        client.post("/v1/recommendations", json={"k": 0}),
        client.get("/v1/nowhere"),
        client.post("/v1/events", content=b"x" * 2_000_000, headers=JSON),
    ]
    assert [answer.status_code for answer in answers] == [200, 202, 200, 200, 200, 200, 200, 409, 422, 404, 413]
    for answer in answers:
        body = answer.json()
        assert (body["version"], body["digest"]) == ("1", digest_of("first")), answer.url
        assert body["request_id"] == answer.headers["X-Request-Id"]
    assert len({answer.json()["request_id"] for answer in answers}) == len(answers)


def test_a_stranger_gets_popular_and_fresh_items_with_reasons(world: World) -> None:
    for number in range(5):
        world.client.post("/v1/events", json=event(number, user=f"u{number}", item="i20"))
    answer = world.client.post("/v1/recommendations", json={"k": 3}).json()
    assert answer["known_user"] is False
    assert titles(answer)[0] == "i20"
    assert answer["items"][0]["source"] == "popular"
    assert answer["items"][0]["why"][0] == "popular right now"
    assert {item["source"] for item in answer["items"]} <= {"popular", "fresh"}


def test_a_click_changes_the_next_answer(world: World) -> None:
    ask = {"user_id": "u1", "k": 5}
    before = world.client.post("/v1/recommendations", json=ask).json()
    shown = before["items"][3]["item_id"]
    sent = world.client.post("/v1/events", json=event(1, item=shown) | {"request_id": before["request_id"]})
    assert sent.status_code == 202
    after = world.client.post("/v1/recommendations", json=ask).json()
    assert after["known_user"] is True
    assert titles(after)[0] == shown


def test_a_history_in_the_request_stands_for_the_user(world: World) -> None:
    body = {"history": [{"item_id": "i1"}], "k": 4, "filters": {"exclude_seen": True}}
    answer = world.client.post("/v1/recommendations", json=body).json()
    assert answer["known_user"] is True
    assert "i1" not in titles(answer)
    assert {item["category"] for item in answer["items"]} == {"kitchen"}
    assert world.journal.rows == [], "a history given with a request is not an event"


def test_filters(world: World) -> None:
    filters = {"category": ["books"], "exclude": ["i2", "no such item"]}
    answer = world.client.post("/v1/recommendations", json={"k": 50, "filters": filters}).json()
    assert "i5" in titles(answer)
    assert "i2" not in titles(answer)
    assert {item["category"] for item in answer["items"]} == {"books"}
    nothing = world.client.post("/v1/recommendations", json={"filters": {"category": ["boks"]}})
    assert nothing.status_code == 422
    assert "'boks': no item has it; categories are books, kitchen, outdoor" in nothing.json()["error"]["message"]


def test_events_are_counted_and_reasons_given(world: World) -> None:
    batch = {"events": [event(1), event(1), event(2, kind="stare")]}
    answer = world.client.post("/v1/events", json=batch).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert answer["rejected"] == [{"index": 2, "event_id": "e2", "reason": "unknown kind 'stare'"}]
    too_many = world.client.post("/v1/events", json={"events": [event(number) for number in range(6)]})
    assert too_many.status_code == 422
    assert "6 at once, at most 5" in too_many.json()["error"]["message"]


def test_an_event_that_cannot_be_read_is_named_by_its_place(world: World) -> None:
    batch = {"events": [event(1), event(2) | {"position": -1}]}
    message = world.client.post("/v1/events", json=batch).json()["error"]["message"]
    assert message == "events.1.position: Input should be greater than or equal to 0, found -1"
    bare = {name: value for name, value in event(3).items() if name != "item_id"}
    message = world.client.post("/v1/events", json=bare).json()["error"]["message"]
    assert message == "item_id: Field required, found nothing"


def test_events_are_taken_before_any_version_is_loaded(make_world: Callable[..., World]) -> None:
    world = make_world(champion=None)
    taken = world.client.post("/v1/events", json=event(1))
    assert taken.status_code == 202
    assert taken.json()["version"] is None
    assert world.client.get("/healthz").status_code == 200
    not_ready = world.client.get("/readyz")
    assert not_ready.status_code == 503
    assert "promote one" in not_ready.json()["error"]["message"]
    assert world.client.post("/v1/recommendations", json={}).status_code == 503


def test_similar_items(world: World) -> None:
    answer = world.client.get("/v1/items/i1/similar?k=3").json()
    assert titles(answer) == ["i4", "i7", "i10"]
    missing = world.client.get("/v1/items/i999/similar")
    assert missing.status_code == 404
    assert "knows no item 'i999'" in missing.json()["error"]["message"]
    assert world.client.get("/v1/items/i1/similar?k=51").status_code == 422


def test_each_task_answers_its_own_question(world: World, make_world: Callable[..., World]) -> None:
    wrong = world.client.post("/v1/classifications", json={"texts": ["a storm"]})
    assert wrong.status_code == 409
    assert "version 1 ranks items (task rank); use /v1/recommendations" in wrong.json()["error"]["message"]
    labels = make_world(task="classify").client
    answer = labels.post("/v1/classifications", json={"texts": ["a storm", "a breeze"]}).json()
    assert [result["label"] for result in answer["results"]] == ["stormy", "calm"]
    assert answer["results"][0]["probabilities"]["stormy"] == pytest.approx(0.9)
    assert labels.post("/v1/recommendations", json={}).status_code == 409


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"user_id": "a\\u0000b"}', "NUL character at position 1"),
        (b'{"user_id": "a\\ud800b"}', "surrogate"),
        (b'{"query": "\\udfff"}', "surrogate"),
        (b'{"filters": {"exclude": ["\\ud800"]}}', "surrogate"),
        (b'{"\\ud800": 1}', "unicode"),
        (b'{"user_id": "  "}', "blank"),
        (b'{"k": 51}', "k: 51 is more than 50"),
        (b'{"k": 0}', "greater than or equal to 1"),
        (b'{"k": "10"}', "valid integer"),
        (b'{"k": 1e400}', "k:"),
        (b'{"user_id": "a", "history": []}', "both user_id and history"),
        (b'{"history": [{"item_id": "i999"}]}', "knows no item 'i999'"),
        (b'{"history": [{"item_id": "i1", "at": "2026-03-01T10:00:00"}]}', "timezone"),
        (b'{"usr": "a"}', "usr: Extra inputs"),
        (b"{", "JSON"),
        (b'{"user_id": "\xff"}', "JSON"),
        (b"[" * 100_000, "nested 100000 deep"),
        (b'{"k": ' + b"9" * 5000 + b"}", ""),
    ],
)
def test_a_bad_request_is_told_why(world: World, body: bytes, reason: str) -> None:
    answer = world.client.post("/v1/recommendations", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert reason in answer.json()["error"]["message"]
    assert world.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", ["value", "propensity"])
@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_number_that_is_none_is_refused(world: World, name: str, number: str) -> None:
    body = json.dumps(event(1))[:-1] + f', "{name}": {number}}}'
    answer = world.client.post("/v1/events", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert name in json.dumps(answer.json()["error"])
    assert world.journal.rows == []


def test_a_streamed_body_is_cut_off_at_the_limit(world: World) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 100_000
            yield b" " * 100_000

    answer = world.client.post("/v1/events", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert "exceeds 1000000 bytes" in answer.json()["error"]["message"]


def test_only_json_from_this_machine_is_taken(world: World) -> None:
    plain = world.client.post("/v1/events", content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    rebound = world.client.get("/healthz", headers={"Host": "evil.example:8321"})
    assert rebound.status_code == 421
    for host in ("127.0.0.1:8321", "localhost", "[::1]:8321"):
        assert world.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_decision_needs_a_name_and_a_reason_and_swaps(world: World) -> None:
    world.registry.add("2", "second")
    path = "/v1/challengers/2/approve"
    assert world.client.post(path, json={"actor": " ", "reason": "x"}).status_code == 422
    assert world.client.post(path, json={"actor": "Ada"}).status_code == 422
    assert world.client.post("/v1/challengers/9/approve", json={"actor": "Ada", "reason": "x"}).status_code == 404
    assert world.client.post("/v1/challengers/..%2F1/reject", json={"actor": "A", "reason": "x"}).status_code == 404
    answer = world.client.post(path, json={"actor": "Ada", "reason": "gates pass"})
    assert answer.status_code == 200
    assert answer.json()["version"] == "2"
    assert world.decisions.made == [("2", "approve", "Ada", "gates pass")]
    again = world.client.post(path, json={"actor": "Ada", "reason": "gates pass"})
    assert again.status_code == 409
    assert "does not wait" in again.json()["error"]["message"]


def test_challengers_come_with_their_gates(world: World) -> None:
    world.registry.add("2", "second")
    (challenger,) = world.client.get("/v1/challengers").json()["challengers"]
    assert (challenger["number"], challenger["passed"], challenger["report"]) == ("2", True, None)
    gate = challenger["gates"][0]
    assert (gate["name"], gate["observed"], gate["low"], gate["threshold"]) == ("ndcg", 0.0213, 0.0051, -0.01)
    assert world.client.post("/v1/challengers/2/reject", json={"actor": "Ada", "reason": "odd"}).status_code == 200
    assert world.client.get("/v1/challengers").json()["challengers"] == []


def test_a_gate_report_is_shown_as_a_page_that_runs_nothing(world: World) -> None:
    folder = world.registry.folder / "report-1"
    assert world.client.get("/reports/1").status_code == 404
    folder.mkdir()
    (folder / "gate-report.html").write_text("<p>gates</p>")
    page = world.client.get("/reports/1")
    assert page.text == "<p>gates</p>"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert world.client.get("/reports/..%2Fsecret").status_code == 404
    assert world.client.get("/reports/1/data-docs.html").status_code == 404
    (folder / "data-docs.html").write_text("<p>rules</p>")
    (folder / "gate-report.html").write_text('<a href="data-docs.html">docs</a>')
    assert 'href="/reports/1/data-docs.html"' in world.client.get("/reports/1").text
    docs = world.client.get("/reports/1/data-docs.html")
    assert (docs.text, "default-src 'none'" in docs.headers["Content-Security-Policy"]) == ("<p>rules</p>", True)


def test_metrics_are_the_app_s_own(world: World, make_world: Callable[..., World]) -> None:
    other = make_world()
    world.client.post("/v1/recommendations", json={"k": 2})
    world.client.post("/v1/events", json=event(1))
    text = world.client.get("/metrics").text
    assert 'penstock_requests_total{route="/v1/recommendations",status="200"} 1.0' in text
    assert f'penstock_served_version_info{{digest="{digest_of("first")}",version="1"}} 1.0' in text
    assert 'penstock_events_total{outcome="accepted"} 1.0' in text
    assert "/v1/recommendations" not in other.client.get("/metrics").text


def test_swapping_under_load_fails_no_request(world: World) -> None:
    import threading
    import time

    codes: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            codes.append(world.client.post("/v1/recommendations", json={"user_id": "u1"}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number, name in enumerate(("second", "first", "second", "torn", "first"), start=2):
        world.registry.serve(str(number), name)
        world.runtime.poll()
        asked, until_s = len(codes), time.monotonic() + 60
        while len(codes) < asked + 3 and time.monotonic() < until_s:
            time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(codes) > 10
    assert set(codes) == {200}
    assert world.runtime.current().version == "6"
    assert (world.runtime.counts.swapped, world.runtime.counts.failed) == (5, 1)


def test_pages_need_nothing_from_elsewhere(world: World) -> None:
    for path in ("/", "/docs", "/console/console.css", "/console/pages.css", "/console/main.js", "/console/icon.svg"):
        page = world.client.get(path)
        assert page.status_code == 200, path
        assert "://" not in page.text.replace("http://www.w3.org/2000/svg", ""), path
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert world.client.get("/console/..%2Fapp.py").status_code == 404
    docs = world.client.get("/docs").text
    schema = world.client.get("/openapi.json").json()
    for path in schema["paths"]:
        assert path in docs
    assert "exclude_seen" in docs


def test_examples_in_the_documentation_work(world: World) -> None:
    schema = world.client.get("/openapi.json").json()
    examples = schema["components"]["schemas"]["RecommendationRequest"]["examples"]
    assert len(examples) == 2
    examples[1]["history"][0]["item_id"] = "i4"
    for example in examples:
        assert world.client.post("/v1/recommendations", json=example).status_code == 200
    one = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in one.values():
        assert world.client.post("/v1/events", json=example["value"]).status_code == 202


def test_a_fault_is_told_without_its_inside(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    world.scorers["first"].score = broken  # type: ignore[method-assign]
    answer = world.client.post("/v1/recommendations", json={})
    assert answer.status_code == 500
    assert answer.json()["request_id"] in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert world.client.get("/v1/items/i1/similar").status_code == 200, "the lock was given back"


def test_items_not_born_yet_are_not_shown(world: World) -> None:
    state = world.scorers["first"].state
    state.born_s_N[:] = (NOW + timedelta(days=1)).timestamp()
    state.born_s_N[5] = (NOW - timedelta(days=1)).timestamp()
    assert titles(world.client.post("/v1/recommendations", json={}).json()) == ["i5"]


def test_the_service_imports_nothing_heavy() -> None:
    code = "import sys, penstock.serving.app; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "transformers", "prefect", "great_expectations", "peft", "mlflow", "onnxruntime", "pandas"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
