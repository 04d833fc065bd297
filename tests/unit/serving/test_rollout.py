"""A challenger beside the champion: over the real state database, journal and registry; only the model is a fake."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from serving_fakes import NOW, event
from whole_bench import Whole

from penstock.errors import RegistryError
from penstock.evaluation.off_policy import OffPolicyRules, estimate, predict_rewards
from penstock.registry import audit
from penstock.registry.promotion import approve, promote
from penstock.registry.rollout_results import answered, placements, results
from penstock.registry.rollouts import Exposure, Rollout, exposures, latest, record, running, start, stop
from penstock.serving import rollout as rollout_module
from penstock.serving.app import create_app
from penstock.serving.rollout import Rollouts
from penstock.settings import Settings

USERS = [f"u{number}" for number in range(60)]
LATER = NOW + timedelta(hours=1)


@dataclass
class Stage:
    whole: Whole
    settings: Settings
    rollouts: Rollouts
    client: TestClient
    champion: str
    challenger: str

    def begin(self, mode: Any = "canary", share: float = 0.5) -> Any:
        begun = start(self.whole.registry, self.whole.state, self.challenger, mode, share, "Ada", "to try", NOW)
        self.rollouts.look(NOW)
        return begun

    def takes(self, rollout: Rollout, user: str) -> bool:
        """Whether the user, by the name in the journal, belongs to the challenger."""
        return rollout.takes(self.whole.runtime.journal.name_of(user))

    def ask(self, user: str | None) -> dict[str, Any]:
        answer = self.client.post("/v1/recommendations", json={"k": 3} | ({"user_id": user} if user else {}))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def click(self, number: int, user: str, item: str, request_id: str) -> None:
        sent = self.client.post("/v1/events", json=event(number, user, item) | {"request_id": request_id})
        assert sent.json()["accepted"] == 1, sent.text

    def results(self, now: datetime = LATER) -> Any:
        self.rollouts.flush()
        found = latest(self.whole.state, self.settings.registry.environment)
        assert found is not None
        own = self.rollouts
        return results(self.whole.state, found, own.settings, own.positive_kinds, now)


@pytest.fixture
def stage(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(rollout_module, "REST", 0.0)
    settings = whole.settings.override(
        {"rollout.min_requests": 10, "rollout.resamples": 200, "rollout.check_s": 0, "rollout.confidence": 0.95}
    )
    champion = whole.register("one")
    approve(whole.registry, whole.state, champion, "Ada", "the first one", NOW)
    promote(whole.registry, whole.state, champion, "Ada", "the first one", None, NOW)
    assert whole.runtime.poll()
    challenger = whole.register("two")
    app = create_app(whole.runtime, settings)
    client = TestClient(app, raise_server_exceptions=False)
    yield Stage(whole, settings, app.state.rollouts, client, champion, challenger)
    client.close()


def test_a_user_is_always_in_the_same_arm_and_the_arms_are_of_the_size_asked_for(stage: Stage) -> None:
    rollout = stage.begin(share=0.3)
    first = {user: stage.ask(user)["version"] for user in USERS}
    assert set(first.values()) == {stage.champion, stage.challenger}
    for user in USERS:
        assert (first[user] == stage.challenger) == stage.takes(rollout, user)
        assert stage.ask(user)["version"] == first[user]
    taken = sum(rollout.takes(f"somebody {number}") for number in range(20_000))
    assert taken / 20_000 == pytest.approx(0.3, abs=0.015)
    assert stage.ask(None)["version"] == stage.champion, "who cannot be recognised is no part of it"
    arms = {arm.name: arm for arm in stage.results().arms}
    assert arms["champion"].requests + arms["challenger"].requests == 2 * len(USERS)
    assert arms["challenger"].users == list(first.values()).count(stage.challenger)


def test_a_restart_goes_on_with_the_same_rollout(stage: Stage) -> None:
    stage.begin()
    before = {user: stage.ask(user)["version"] for user in USERS[:20]}
    again = TestClient(create_app(stage.whole.runtime, stage.settings))
    again.app.state.rollouts.look(NOW)  # type: ignore[attr-defined]
    for user, version in before.items():
        assert again.post("/v1/recommendations", json={"user_id": user}).json()["version"] == version
    again.close()


def test_choices_count_for_the_arm_that_answered_and_within_the_window(stage: Stage) -> None:
    rollout = stage.begin()
    answers = {user: stage.ask(user) for user in USERS}
    stage.rollouts.flush()
    inside = [user for user in USERS if stage.takes(rollout, user)]
    for number, user in enumerate(inside[:4]):
        stage.click(number, user, answers[user]["items"][0]["item_id"], answers[user]["request_id"])
    stage.click(90, inside[5], "i1", "a request that nobody made")
    arms = {arm.name: arm for arm in stage.results().arms}
    assert (arms["challenger"].clicked, arms["champion"].clicked) == (4, 0)
    assert arms["challenger"].click_rate == pytest.approx(4 / len(inside))
    assert arms["challenger"].click_rate_low < 4 / len(inside) < arms["challenger"].click_rate_high  # type: ignore[operator]
    early = {arm.name: arm for arm in stage.results(NOW + timedelta(seconds=1)).arms}
    assert early["challenger"].told == 0, "the others may still be clicked: all that is known is who clicked"
    assert early["challenger"].click_rate is None
    shown = stage.client.get("/v1/rollout").json()["rollout"]
    assert (shown["rollout"]["number"], shown["rollout"]["mode"]) == (stage.challenger, "canary")
    assert [arm["name"] for arm in shown["arms"]] == ["champion", "challenger"]
    rules = {name: shown[name] for name in ("confidence", "click_window_s", "min_requests")}
    assert rules == {"confidence": 0.95, "click_window_s": 1800, "min_requests": 10}, "what its figures are judged by"


def fill(stage: Stage, rollout: Any, clicked: dict[str, float], requests: int = 400, seed: int = 1) -> None:
    """Answers of many users and what they chose, written as the service and the journal would have."""
    rng = np.random.default_rng(seed)
    rows, events = [], []
    for number in range(requests):
        arm = "challenger" if number % 2 else "champion"
        user, request = f"{arm}-{number % 80}", f"r{seed}-{number}"
        rows.append(Exposure(request, arm, user, NOW, 0.004, False, (("i1", None),)))  # type: ignore[arg-type]
        if rng.random() < clicked[arm]:
            events.append(event(10_000 * seed + number, user, "i1") | {"request_id": request, "at": NOW})
    record(stage.whole.state, rollout.id, rows)
    stage.whole.runtime.journal.append(events, NOW)


def test_a_canary_that_is_chosen_less_ends_itself(stage: Stage) -> None:
    rollout = stage.begin()
    fill(stage, rollout, {"champion": 0.3, "challenger": 0.1})
    assert stage.results().difference_high < 0
    stage.rollouts.look(LATER)
    ended = latest(stage.whole.state, rollout.environment)
    assert ended is not None
    assert ended.ended_why is not None
    assert "below the champion's" in ended.ended_why
    assert {stage.ask(user)["version"] for user in USERS} == {stage.champion}
    assert audit.entries(stage.whole.state)[-1].action == "rollout-stop"


def test_others_go_on(stage: Stage) -> None:
    for seed, (mode, challenger) in enumerate([("canary", 0.3), ("canary", 0.45), ("ab", 0.1)]):
        rollout = stage.begin(mode)
        fill(stage, rollout, {"champion": 0.3, "challenger": challenger}, seed=seed + 1)
        stage.rollouts.look(LATER)
        assert running(stage.whole.state, rollout.environment) is not None, (mode, challenger)
        stop(stage.whole.state, rollout.environment, "Ada", "enough", LATER)


def test_a_challenger_that_fails_costs_no_request_and_is_ended(stage: Stage) -> None:
    rollout = stage.begin(share=1.0)
    bad = {"user_id": "u1", "filters": {"category": ["boks"]}}
    assert stage.client.post("/v1/recommendations", json=bad).status_code == 422
    assert stage.results().arms[1].failed == 0, "a request's own fault is not the challenger's"
    active = stage.rollouts._active
    assert active is not None

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("damaged")

    active[1].scorer.score = broken  # type: ignore[method-assign]
    assert {stage.ask(user)["version"] for user in USERS[:12]} == {stage.champion}
    stage.rollouts.look(NOW)
    ended = latest(stage.whole.state, rollout.environment)
    assert ended is not None
    assert "100.00% of its answers failed" in str(ended.ended_why)


def test_a_shadow_ranks_unseen(stage: Stage) -> None:
    rollout = stage.begin("shadow", share=1.0)
    answers = {user: stage.ask(user) for user in USERS[:20]}
    assert {answer["version"] for answer in answers.values()} == {stage.champion}
    stage.rollouts.drain()
    found = stage.results()
    arms = {arm.name: arm for arm in found.arms}
    assert (arms["champion"].requests, arms["shadow"].requests) == (20, 20)
    assert found.agreement == pytest.approx(1.0), "both fakes rank alike"
    logged = placements(answered(stage.whole.state, rollout, ["click"], 60))
    assert len(logged) == 20 * 3
    assert logged["target"].to_list() == [1.0] * 60
    for user in [*USERS, *USERS]:
        stage.ask(user)
    assert stage.rollouts.counts["shadow", "dropped"] == 120 - 64, "who cannot keep up is left out, and counted"
    stage.rollouts.drain()


def test_what_a_shadow_would_have_earned_is_estimated_from_the_log(stage: Stage) -> None:
    """The champion shows one of two items by a coin of 0.7; the shadow always shows the better one."""
    rollout = stage.begin("shadow", share=1.0)
    rng, rate = np.random.default_rng(4), {"i1": 0.2, "i2": 0.5}
    rows, events = [], []
    for number in range(1500):
        item = "i1" if rng.random() < 0.7 else "i2"
        user, request = f"u{number % 300}", f"r{number}"
        rows.append(Exposure(request, "champion", user, NOW, 0.004, False, ((item, 0.7 if item == "i1" else 0.3),)))
        rows.append(Exposure(request, "shadow", user, NOW, 0.004, False, (("i2", None),)))
        if rng.random() < rate[item]:
            events.append(event(number, user, item) | {"request_id": request, "at": NOW})
    record(stage.whole.state, rollout.id, rows)
    stage.whole.runtime.journal.append(events, NOW)
    logged = placements(answered(stage.whole.state, rollout, ["click"], 60))
    found = estimate(predict_rewards(logged), OffPolicyRules(100, 0.2, 200, 0.99, 1))
    for one in (found.ips, found.snips, found.dr):
        assert one.low < 0.5 < one.high
    assert found.logged.high < 0.4
    assert found.gain.low > 0


def test_another_champion_ends_the_comparison(stage: Stage) -> None:
    rollout = stage.begin()
    approve(stage.whole.registry, stage.whole.state, stage.challenger, "Ada", "good", NOW)
    promote(stage.whole.registry, stage.whole.state, stage.challenger, "Ada", "good", stage.champion, NOW)
    stage.whole.runtime.poll()
    assert stage.ask("u1")["version"] == stage.challenger
    stage.rollouts.look(NOW)
    ended = latest(stage.whole.state, rollout.environment)
    assert ended is not None
    assert f"version {stage.challenger} serves now" in str(ended.ended_why)


def test_a_bundle_that_cannot_be_loaded_ends_the_rollout(stage: Stage) -> None:
    folder = stage.whole.registry.bundle_dir(stage.whole.registry.version(stage.challenger))
    (folder / "weights.bin").write_text("tampered")
    rollout = stage.begin()
    ended = latest(stage.whole.state, rollout.environment)
    assert ended is not None
    assert "cannot be loaded" in str(ended.ended_why)
    assert stage.ask("u1")["version"] == stage.champion


def test_what_cannot_be_started_is_told_why(stage: Stage) -> None:
    registry, state = stage.whole.registry, stage.whole.state
    with pytest.raises(RegistryError, match="serves already"):
        start(registry, state, stage.champion, "canary", 0.1, "Ada", "x", NOW)
    with pytest.raises(RegistryError, match="share of"):
        start(registry, state, stage.challenger, "canary", 1.5, "Ada", "x", NOW)
    with pytest.raises(RegistryError, match="none runs"):
        stop(state, registry.environment, "Ada", "x", NOW)
    start(registry, state, stage.challenger, "shadow", 0.1, "Ada", "x", NOW)
    with pytest.raises(RegistryError, match=f"a shadow of version {stage.challenger} runs since"):
        start(registry, state, stage.challenger, "canary", 0.1, "Ada", "x", NOW)
    stop(state, registry.environment, "Ada", "enough", NOW)
    assert [entry.action for entry in audit.entries(state)][-2:] == ["rollout-start", "rollout-stop"]
    stage.whole.runtime.decisions.reject(stage.challenger, "Ada", "odd", NOW)
    with pytest.raises(RegistryError, match="is rejected, and only a challenger"):
        start(registry, state, stage.challenger, "canary", 0.1, "Ada", "x", NOW)


def test_the_threads_take_a_rollout_up_and_write_what_was_answered_also_in_the_shadow_at_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ranked = threading.Event(), threading.Event()
    noted = Rollouts._note

    def slow(self: Rollouts, rollout: Rollout, exposure: Exposure) -> None:
        if exposure.arm == "shadow":
            begun.set()
            assert ranked.wait(60)
        noted(self, rollout, exposure)

    monkeypatch.setattr(Rollouts, "_note", slow)
    app = create_app(stage.whole.runtime, stage.settings.override({"service.poll_s": 0.02}))
    with TestClient(app) as client:
        start(stage.whole.registry, stage.whole.state, stage.challenger, "shadow", 1.0, "Ada", "x", NOW)
        until_s = time.monotonic() + 60
        while app.state.rollouts.active is None and time.monotonic() < until_s:
            time.sleep(0.01)
        assert client.post("/v1/recommendations", json={"user_id": "u1"}).status_code == 200
        assert begun.wait(60)
        threading.Timer(0.3, ranked.set).start()
    assert [arm.requests for arm in stage.results().arms] == [1, 1]


def test_the_longer_it_takes_to_read_a_rollout_the_less_often_it_is_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout, now_s, reads = stage.begin("shadow"), [0.0], [0]

    class Clock:
        perf_counter = time.perf_counter

        @staticmethod
        def monotonic() -> float:
            return now_s[0]

    def slow(*arguments: Any) -> Any:
        now_s[0] += 3.0
        reads[0] += 1
        return results(*arguments)

    monkeypatch.setattr(rollout_module, "REST", 19.0)
    monkeypatch.setattr(rollout_module, "time", Clock)
    monkeypatch.setattr(rollout_module, "results", slow)
    own = Rollouts(stage.whole.runtime, stage.settings)
    for _ in range(80):
        own.standing(rollout, NOW)
        now_s[0] += 1.2
    assert reads[0] == 2, "three seconds of reading, then fifty-seven of rest"


def test_answers_of_earlier_rollouts_are_dropped_some_at_a_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.registry import rollouts as registry_module

    def kept() -> dict[int, int]:
        counted = sa.select(exposures.c.rollout_id, sa.func.count()).group_by(exposures.c.rollout_id)
        with stage.whole.state.read() as conn:
            return {row[0]: row[1] for row in conn.execute(counted)}

    monkeypatch.setattr(registry_module, "DROPPED", 30)
    first = stage.begin("shadow")
    fill(stage, first, {"champion": 0.1, "challenger": 0.1}, requests=50)
    stop(stage.whole.state, first.environment, "Ada", "seen enough", NOW)
    stage.rollouts.look(NOW)
    assert kept() == {first.id: 50}, "the last one can still be asked for"
    second = stage.begin("shadow")
    fill(stage, second, {"champion": 0.1, "challenger": 0.1}, requests=40, seed=2)
    assert kept() == {first.id: 20, second.id: 40}
    stage.rollouts.look(NOW)
    stage.rollouts.look(NOW)
    assert kept() == {second.id: 40}
