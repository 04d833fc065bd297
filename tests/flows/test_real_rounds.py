"""Two scheduled rounds and an approval of each, with the stages that production runs; only the encoder is small.

The rounds are made by the server from the deployment's schedule, for ticks that have passed: nothing waits for a clock.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import click.testing
import pytest
import yaml
from core_bench import Shop, make_tiny_encoder, open_shop
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect_worker import due_runs, runs_of, scheduled_at, work

from flows import runs
from flows.decide import decide
from flows.decision import waiting
from flows.deployment import every
from flows.online_round import online_round
from flows.promotion import promotion
from penstock.data.snapshot import list_snapshots
from penstock.data.state import State, open_state
from penstock.inference.bundle import verify_bundle
from penstock.registry.audit import verify
from penstock.registry.store import Registry, open_registry

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A simulated shop whose log comes in two parts; a person has to approve what is learned from it."""
    encoder = make_tiny_encoder(tmp_path / "encoder")
    return open_shop(tmp_path, str(encoder), 2, **{"promotion.policy": "manual"})


@pytest.fixture
def deployed(shop: Shop, tmp_path: Path) -> Iterator[UUID]:
    """The deployment of `online_round`, scheduled as params.yaml says, and beside it the one of `promotion`."""
    for run in runs_of("promotion", StateType.PAUSED, StateType.SCHEDULED):
        runs.cancel(run.id, "left by an earlier test")
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(shop.settings.model_dump(mode="json")))
    promotion.to_deployment("promotion").apply()
    cron = every("schedule.round_minutes", shop.settings.schedule.round_minutes)
    deployment = online_round.to_deployment("online_round", parameters={"params": str(params)}, cron=cron).apply()
    yield deployment
    with get_client(sync_client=True) as client:
        client.delete_deployment(deployment)


def passed_ticks(deployment: UUID, count: int, period_s: float) -> list[FlowRun]:
    """Let the server schedule the runs of the last `count` ticks."""
    now = datetime.now(UTC)
    span = {"start_time": now - timedelta(seconds=count * period_s), "end_time": now, "max_runs": count}
    with get_client(sync_client=True) as client:
        body = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in span.items()}
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": str(deployment)}, json=body)
    return due_runs("online_round", 0.0)


def approve(version: str) -> None:
    """Approve a version through the server, as a person would, and let the worker carry it out."""
    command = [version, "approve", "--actor", "ann", "--reason", "looked at the gates"]
    result = click.testing.CliRunner().invoke(decide, command)
    assert result.exit_code == 0, result.output
    assert work(promotion) == ["Completed"]


def serving(registry: Registry) -> str | None:
    """The champion, its bundle checked file by file."""
    pointer = registry.champion_pointer()
    if pointer is None:
        return None
    assert verify_bundle(pointer.bundle_dir) == pointer.digest
    return pointer.number


def one_round(shop: Shop, registry: Registry, part: int) -> str:
    """Let a part of the log arrive and the next tick happen; the version that waits afterwards."""
    before = serving(registry)
    shop.arrive(part)
    assert work(online_round, limit=1) == ["Waiting"]
    assert work(promotion) == ["Suspended"]
    assert serving(registry) == before, "nothing is promoted before a person has said so"
    (version,) = waiting()
    return version


def snapshots(state: State) -> list[str]:
    """Snapshots that were learned from."""
    return [manifest.snapshot_id for manifest in list_snapshots(state, status="learned")]


def test_two_scheduled_rounds_and_their_approvals(shop: Shop, deployed: UUID, tmp_path: Path) -> None:
    state = open_state(shop.settings.state.url)
    state.ensure()
    registry = open_registry(shop.settings, state)
    period_s = shop.settings.schedule.round_minutes * 60
    ticks = passed_ticks(deployed, 2, period_s)
    at = [scheduled_at(run) for run in ticks]
    assert [run.auto_scheduled for run in ticks] == [True, True]
    assert (at[1] - at[0]).total_seconds() == period_s  # type: ignore[operator]

    first = one_round(shop, registry, 0)
    approve(first)
    assert serving(registry) == first
    second = one_round(shop, registry, 1)
    learned = registry.version(second)
    report = registry.gate_report(learned)
    assert report is not None
    assert report.passed
    assert report.champion_digest == registry.version(first).digest, "judged against the version that was approved"
    approve(second)
    assert serving(registry) == second

    assert [(one.actor, one.number) for one in registry.history()] == [("ann", first), ("ann", second)]
    assert verify(state).ok
    rows = {manifest.snapshot_id: manifest.rows for manifest in list_snapshots(state)}
    assert snapshots(state) == list(rows)
    assert sum(rows.values()) == len(shop.dataset.events), "every event was learned from once"
    nothing = online_round(tmp_path / "params.yaml", return_state=True)
    assert nothing.name == "Nothing pending"
