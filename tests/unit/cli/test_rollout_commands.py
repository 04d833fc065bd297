"""rollout start, status, evaluate and stop over a real registry; what the service wrote meanwhile is written here."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_decisions import register

from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.registry.audit import entries
from penstock.registry.rollouts import Exposure, record
from penstock.settings import load_settings

Ask = Callable[..., dict[str, Any]]


def test_a_shadow_from_its_start_to_its_end(
    registered: Path, answer: Ask, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    assert answer("rollout", "status") == {"rollout": None}
    for name in ("one", "two"):
        register(registered, name)
    early = answer("rollout", "start", "2", "--reason", "to try", code=1)
    assert "nothing serves yet" in early["error"]["message"]
    answer("approve", "1", "--reason", "first", "--actor", "Ada")
    begun = answer("rollout", "start", "2", "--share", "1", "--reason", "to try")
    assert begun == {"version": "2", "mode": "shadow", "share": 1.0, "compared_with": "1"}
    empty = answer("rollout", "evaluate", code=1)
    assert "wait for traffic" in empty["error"]["message"]

    settings = load_settings()
    state, now = open_state(settings.state.url), datetime.now(UTC)
    earlier, events, rows = now - timedelta(hours=1), [], []
    for number in range(400):
        item = "i1" if number % 2 else "i2"
        rows.append(Exposure(f"r{number}", "champion", f"u{number % 90}", earlier, 0.01, False, ((item, 0.5),)))
        rows.append(Exposure(f"r{number}", "shadow", f"u{number % 90}", earlier, 0.01, False, (("i1", None),)))
        if number % 4 == 1:
            events.append({"event_id": f"e{number}", "user_id": f"u{number % 90}", "item_id": item, "kind": "click",
                           "at": earlier, "request_id": f"r{number}"})  # fmt: skip
    young = [replace(one, request_id=f"young {one.request_id}", at=now) for one in rows]
    record(state, 1, young)
    waiting = answer("rollout", "evaluate", code=1)
    assert "400 are younger; wait for traffic and for their clicks" in waiting["error"]["message"]
    record(state, 1, rows)
    Journal(state, settings.data).append(events, earlier)
    status = answer("rollout", "status")["rollout"]
    assert [(arm["name"], arm["requests"]) for arm in status["arms"]] == [("champion", 800), ("shadow", 800)]
    assert [arm["click_rate"] for arm in status["arms"]] == [0.25, None], "nobody saw the shadow's lists"
    found = answer("rollout", "evaluate")
    assert found["logged"]["value"] == 0.25, "answers that may still be clicked are left out"
    assert found["ips"]["value"] == 0.5
    assert found["effective_sample"] == 200
    shown = run("rollout", "status").output + run("rollout", "evaluate").output
    assert "shadow of version 2 beside 1, runs" in " ".join(shown.split())
    assert "200 of 400 placements" in shown

    assert answer("rollout", "stop", "--reason", "enough", "--actor", "Ada")["ended"] == "enough"
    again = answer("rollout", "stop", "--reason", "enough", code=1)
    assert "none runs" in again["error"]["message"]
    assert answer("rollout", "status")["rollout"]["rollout"]["ended_why"] == "enough"
    told = {one.action: one.actor for one in entries(state, None, 10)}
    assert (told["rollout-start"], told["rollout-stop"]) == ("grace", "Ada")
    state.engine.dispose()
