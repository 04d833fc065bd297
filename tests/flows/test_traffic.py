"""The demo's load: every answer is counted by version, every failure is counted as one."""

import json
import time

import httpx

from flows.traffic import Traffic, TrafficReport


def run_until(handler: "httpx.MockTransport", count: int) -> TrafficReport:
    with Traffic("http://service", ["u1", "u2"], pause_s=0.0, transport=handler) as traffic:
        deadline = time.monotonic() + 60
        while traffic.report.sent < count and time.monotonic() < deadline:
            time.sleep(0.005)
    return traffic.report


def test_answers_are_counted_by_the_version_that_made_them() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["user_id"])
        return httpx.Response(200, json={"version": "1" if len(asked) <= 5 else "2", "items": []})

    report = run_until(httpx.MockTransport(answer), 20)
    assert report.by_version["1"] == 5
    assert report.by_version["2"] == report.sent - 5
    assert not report.failures
    assert set(asked) == {"u1", "u2"}
    assert report.quantile_ms(0.5) <= report.quantile_ms(0.99)


def test_a_refused_connection_and_an_error_status_are_failures() -> None:
    seen = iter(range(10_000))

    def answer(request: httpx.Request) -> httpx.Response:
        if next(seen) % 2:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(503)

    report = run_until(httpx.MockTransport(answer), 10)
    assert report.failures["status 503"] >= 4
    assert report.failures["ConnectError"] >= 4
    assert not report.by_version


def test_waiting_for_a_version_says_how_long_it_took_or_that_it_did_not_come() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"version": "3"}))
    with Traffic("http://service", ["u1"], transport=transport) as traffic:
        assert traffic.wait_for_version("3", 10) is not None
        assert traffic.wait_for_version("4", 0.1) is None


def test_no_answer_has_no_latency() -> None:
    assert TrafficReport().quantile_ms(0.5) != TrafficReport().quantile_ms(0.5)
