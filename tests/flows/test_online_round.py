"""Rounds under Prefect: their order, the lease, and from a waiting challenger to an approved one.

The stages are small stand-ins here; registry, state database, leases and Prefect are the real ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect_worker import runs_of, work
from registry_bench import Bench, check_fake

import flows.online_round
import flows.promotion
import penstock.pipeline
from flows.decision import Decision, resume, waiting
from flows.online_round import online_round
from flows.promotion import promotion
from penstock.data import leases
from penstock.errors import SnapshotRefused, TrainingError
from penstock.pipeline import online
from penstock.records import RoundResult, SnapshotManifest
from penstock.registry.store import open_registry
from penstock.settings import Settings

pytestmark = pytest.mark.usefixtures("harness")


def manifest(number: int) -> SnapshotManifest:
    return SnapshotManifest(f"s{number}", "a" * 64, 40, {"click": 40}, "", "", "", 0, 0, "")


class Stages:
    """Stages that learn nothing and register a cheap bundle; each call is noted.

    `refuse`: validation refuses the snapshot. `trouble`: what learning raises.
    """

    stopped = staticmethod(online.stopped)
    CANNOT_LEARN = online.CANNOT_LEARN
    trouble: Exception | None

    def __init__(self, bench: Bench, snapshots: int) -> None:
        self.bench, self.left, self.calls = bench, snapshots, []
        self.refuse, self.trouble = False, None

    @contextmanager
    def round_lease(self, settings: Settings) -> Iterator[Any]:
        lease = leases.acquire(self.bench.state, "round", "test", settings.state.lease_s, datetime.now(UTC))
        try:
            yield lease
        finally:
            leases.release(self.bench.state, lease)

    def close(self, settings: Settings) -> SnapshotManifest | None:
        self.calls.append("close")
        if not self.left:
            return None
        self.left -= 1
        return manifest(self.left)

    def validate(self, settings: Settings, snapshot: SnapshotManifest) -> str:
        self.calls.append("validate")
        if self.refuse:
            raise SnapshotRefused(f"snapshot {snapshot.snapshot_id}: 31 of 40 rows name unknown items")
        return "good rows"

    def learn(self, settings: Settings, snapshot: SnapshotManifest, validated: str) -> SnapshotManifest:
        self.calls.append("learn")
        if self.trouble is not None:
            raise self.trouble
        return snapshot

    def judge(self, settings: Settings, trained: SnapshotManifest) -> SnapshotManifest:
        self.calls.append("judge")
        return trained

    def decide(self, settings: Settings, judged: SnapshotManifest) -> RoundResult:
        self.calls.append("decide")
        version = self.bench.challenger()
        return RoundResult("r", judged.snapshot_id, "waiting", version.number, version.digest, "waits", {}, {})


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages(bench, snapshots=2)
    names = ("round_lease", "close", "validate", "learn", "judge", "decide", "stopped", "CANNOT_LEARN")
    fake = SimpleNamespace(**{name: getattr(made, name) for name in names})
    monkeypatch.setattr(penstock.pipeline, "online", fake, raising=False)
    monkeypatch.setattr(flows.promotion, "open_registry", partial(open_registry, verify=check_fake))
    return made


ROUND = ["close", "validate", "learn", "judge", "decide"]


def test_two_scheduled_rounds_and_one_approval(bench: Bench, stages: Stages, params: Path) -> None:
    promotion.to_deployment("promotion").apply()
    rounds = online_round.to_deployment("online_round", parameters={"params": str(params)}).apply()
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        from prefect.states import Scheduled

        for wait_s in (0.0, 1.0):
            due = Scheduled(scheduled_time=now + timedelta(seconds=wait_s))
            client.create_flow_run_from_deployment(rounds, state=due)
    assert work(online_round) == ["Waiting", "Waiting"]
    assert stages.calls == ROUND * 2
    assert work(promotion) == ["Suspended", "Suspended"]
    newest = max(waiting(), key=int)
    resume(newest, Decision(approve=True, actor="ada", reason="looks right"))
    assert work(promotion) == ["Completed"]
    assert bench.serving() == newest
    assert [one.actor for one in bench.registry.history()] == ["ada"]


def test_a_round_with_nothing_pending_is_no_failure(stages: Stages, params: Path) -> None:
    stages.left = 0
    state = online_round(params, return_state=True)
    assert (state.type, state.name) == (StateType.COMPLETED, "Nothing pending")
    assert stages.calls == ["close"]


def test_a_second_round_steps_aside(bench: Bench, stages: Stages, params: Path) -> None:
    with stages.round_lease(bench.settings):
        state = online_round(params, return_state=True)
    assert (state.type, state.name) == (StateType.COMPLETED, "Skipped")
    assert stages.calls == []
    assert online_round(params, return_state=True).name == "Waiting", "the lease is free again"


def test_a_refused_snapshot_is_not_tried_again_and_frees_the_lease(stages: Stages, params: Path) -> None:
    stages.refuse = True
    state = online_round(params, return_state=True)
    assert (state.type, state.name) == (StateType.COMPLETED, "Quarantined")
    assert "31 of 40 rows" in state.message
    assert state.result().outcome == "quarantined"
    assert stages.calls == ["close", "validate"]
    stages.refuse = False
    assert online_round(params, return_state=True).name == "Waiting"


def test_a_round_that_cannot_learn_ends_as_failed_once_and_keeps_the_champion(
    bench: Bench, stages: Stages, params: Path
) -> None:
    champion = bench.champion().number
    stages.trouble = TrainingError("step 3: the loss is nan; nothing of this round was kept")
    state = online_round(params, return_state=True)
    assert (state.type, state.name) == (StateType.FAILED, "Failed")
    assert state.result(raise_on_failure=False).outcome == "failed"
    assert stages.calls == ["close", "validate", "learn"], "the same would come of a second try"
    assert bench.serving() == champion


def test_a_stage_that_stumbles_over_the_machine_is_tried_again(stages: Stages, params: Path) -> None:
    stages.trouble = OSError("the disk is busy")

    def recover(task: object, run: object, state: object) -> bool:
        stages.trouble = None
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.online_round.learn, "retry_condition_fn", recover)
        assert online_round(params, return_state=True).name == "Waiting"
    assert stages.calls == ["close", "validate", "learn", "learn", "judge", "decide"]


def test_without_a_deployment_nobody_is_asked(stages: Stages, params: Path) -> None:
    before = len(runs_of("promotion"))
    assert online_round(params, return_state=True).name == "Waiting"
    assert len(runs_of("promotion")) == before
