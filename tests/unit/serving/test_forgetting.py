"""A user who was erased is out of the memory of a service that runs, and nobody else is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, event
from whole_bench import Whole, bring_up

from penstock.data.erasure import erase_rows
from penstock.data.journal import Journal
from penstock.data.pseudonyms import names_of
from penstock.errors import BundleError
from penstock.registry.audit import ERASE, Erasures, append
from penstock.registry.promotion import approve, promote
from penstock.registry.rollouts import start
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.rollout import Rollouts
from penstock.serving.runtime import Runtime


@pytest.fixture
def runtime(whole: Whole) -> Runtime:
    number = whole.register("one")
    approve(whole.registry, whole.state, number, "Ada", "fine", NOW)
    promote(whole.registry, whole.state, number, "Ada", "fine", None, NOW)
    journal, decisions = Journal(whole.state, whole.settings.data), Decisions(whole.registry, whole.state)
    runtime = Runtime(
        whole.registry, journal, bring_up, 60.0, whole.state, decisions, lambda: NOW,
        erased=Erasures(whole.state).last,
    )  # fmt: skip
    runtime.poll()
    runtime.accept([event(1, "u1") | {"at": NOW}, event(2, "u2") | {"at": NOW}])
    return runtime


def erase(whole: Whole, user: str) -> None:
    erase_rows(whole.state, whole.settings.state.home, names_of(whole.settings.data, user))
    with whole.state.write() as conn:
        append(conn, "Ada", ERASE, "erasure:x", {}, NOW)


def knows(client: TestClient, user: str) -> Any:
    return client.post("/v1/recommendations", json={"user_id": user}).json()["known_user"]


def test_the_version_is_brought_up_anew_without_the_user(whole: Whole, runtime: Runtime) -> None:
    client, before = TestClient(create_app(runtime, whole.settings)), runtime.current()
    assert knows(client, "u1")
    erase(whole, "u1")
    assert runtime.poll()
    assert (knows(client, "u1"), knows(client, "u2")) == (False, True)
    assert runtime.current().version == before.version
    assert not runtime.poll(), "once for each erasure"


def test_where_it_cannot_be_brought_up_it_serves_on_and_that_is_said(whole: Whole, runtime: Runtime) -> None:
    def broken(folder: Path) -> Any:
        raise BundleError("the disk is away")

    before, runtime._load = runtime.current(), broken
    erase(whole, "u1")
    assert not runtime.poll()
    assert runtime.current() is before
    assert runtime.failure is not None
    assert "the disk is away" in runtime.failure.error
    assert not runtime.poll()
    assert runtime.counts.failed == 1, "a log is not filled with the same"


def test_a_challenger_of_a_rollout_forgets_too(whole: Whole, runtime: Runtime) -> None:
    number = whole.register("two")
    start(whole.registry, whole.state, number, "shadow", 0.5, "Ada", "look", NOW)
    rollouts = Rollouts(runtime, whole.settings)
    rollouts.look(NOW)
    assert rollouts._active is not None
    before = rollouts._active[1]
    erase(whole, "u1")
    rollouts.look(NOW + timedelta(seconds=1))
    assert rollouts._active is not None
    assert rollouts._active[1] is not before
    assert "e1" not in rollouts._active[1].scorer.seen  # type: ignore[attr-defined]


def test_the_last_erasure_is_found_between_other_entries(whole: Whole) -> None:
    erasures = Erasures(whole.state)
    assert erasures.last() == 0
    erase(whole, "u1")
    first = erasures.last()
    assert first > 0
    with whole.state.write() as conn:
        append(conn, "Ada", "reject", "version:1", {}, NOW)
    assert [erasures.last(), erasures.last()] == [first, first]
    erase(whole, "u2")
    assert erasures.last() == Erasures(whole.state).last() == first + 2
