"""What `watch` puts right: aliases, and flow runs whose worker is dead."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Running
from prefect_worker import runs_of
from registry_bench import Bench, check_fake

import flows.watch
from flows import decision, runs
from flows.watch import end_dead_runs, watch
from penstock.data import leases
from penstock.registry.store import open_registry

pytestmark = pytest.mark.usefixtures("harness")


@flow(name="online_round")
def killed() -> None:
    """Stands for a round: its run is set Running, and nobody runs it."""


@pytest.fixture
def nothing_waits() -> None:
    """Cancels what other tests left suspended on the Prefect server that all tests of a process share."""
    while left := decision.waiting():
        for run in left.values():
            runs.cancel(run, "left behind by another test")


@pytest.fixture
def dead_run(bench: Bench) -> str:
    """Name of a run that reads Running although nobody runs it."""
    bench.state.ensure()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(killed, state=Running())
    return run.name


def test_a_run_that_nobody_runs_is_marked_crashed(bench: Bench, dead_run: str) -> None:
    settings = bench.settings.override({"state.lease_s": 0.001})
    assert f"flow run {dead_run}: Running -> Crashed" in end_dead_runs.fn(settings)
    assert runs_of("online_round", StateType.RUNNING) == []


def test_a_run_whose_round_holds_the_lease_is_left_alone(bench: Bench, dead_run: str) -> None:
    leases.acquire(bench.state, "round", "worker-1", 120, datetime.now(UTC))
    settings = bench.settings.override({"state.lease_s": 0.001})
    assert end_dead_runs.fn(settings) == []


def test_a_run_that_has_just_begun_is_left_alone(bench: Bench, dead_run: str) -> None:
    assert all(dead_run not in line for line in end_dead_runs.fn(bench.settings))


@pytest.mark.usefixtures("nothing_waits")
def test_watch_repairs_the_alias_and_then_finds_all_well(
    bench: Bench, params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.watch, "open_registry", partial(open_registry, verify=check_fake))
    number = bench.champion().number
    bench.registry.backend.set_alias("champion", None)
    assert any(f"alias champion: None -> {number}" in line for line in watch(params))
    assert watch(params) == []
