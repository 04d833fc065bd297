"""A learned model's answer explained: the bundle that is loaded again gives the scores that were answered."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from fastapi.testclient import TestClient

from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.registry.store import open_registry
from penstock.serving.app import create_app, open_runtime
from penstock.serving.explain import explain


def test_the_scores_are_the_answered_ones_and_the_past_moves_them(rounds: Any, tmp_path: Path) -> None:
    shop = rounds.shop
    copied = tmp_path / "state.db"
    with sqlite3.connect(shop.settings.state.url.removeprefix("sqlite:///")) as source, sqlite3.connect(copied) as own:
        source.backup(own)
    settings = shop.settings.override({"state.url": f"sqlite:///{copied}"})
    now = datetime.now(UTC)  # the versions were promoted a moment ago, whatever the log's times
    runtime = open_runtime(settings, lambda: now)
    state, arriving = open_state(settings.state.url), shop.part(2).with_columns(received_at=pl.col("at"))
    Journal(state, settings.data).append(arriving[:60], now)
    assert runtime.poll()
    Journal(state, settings.data).append(arriving[60:], now)
    client = TestClient(create_app(runtime, settings))
    users = runtime.current().scorer.state.histories
    user = max(users.users(), key=lambda name: len(users.of(name)))
    assert runtime.poll() is False, "it only takes in what has come since"
    answer = client.post("/v1/recommendations", json={"user_id": user, "k": 6}).json()
    client.app.state.answers.flush()  # type: ignore[attr-defined]
    client.close()

    told = explain(state, open_registry(settings, state), answer["request_id"])
    influence = told["influence"]
    assert influence["same_scores"], influence["largest_difference"]
    assert influence["items"][0]["mean_change"] > 1e-4
    assert all(one["title"] for one in influence["items"])
    assert len(told["rounds"]) == 2
    assert [one["round_id"] for one in told["rounds"]] == [result.round_id for result in rounds.results]
    assert told["decision"]["approver"] == "policy"
    assert told["version"]["data_sha256"] == told["rounds"][-1]["data_sha256"]
    assert set(told["features"]) == {item["item_id"] for item in answer["items"]}
    assert set(told["parts"]) == set(told["features"])
    assert max(abs(part) for parts in told["parts"].values() for part in parts.values()) > 1e-4
    assert told["history"]
