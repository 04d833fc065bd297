"""A worker in the test's own process: runs what is scheduled, the way a worker would, one after the other."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow


def runs_of(name: str, *states: StateType) -> list[FlowRun]:
    """Runs of a flow, in any of these states; all of them without one."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))) if states else None
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), flow_run_filter=wanted)


def due_runs(name: str, horizon_s: float) -> list[FlowRun]:
    """Runs of a flow that are scheduled for up to `horizon_s` seconds from now, the earliest first."""
    until = datetime.now(UTC) + timedelta(seconds=horizon_s)
    scheduled = [(scheduled_at(run), run) for run in runs_of(name, StateType.SCHEDULED)]
    ready = [(at, run) for at, run in scheduled if at is not None and at <= until]
    return [run for _, run in sorted(ready, key=lambda one: one[0])]


def scheduled_at(run: FlowRun) -> datetime | None:
    """When a scheduled run is to begin."""
    return None if run.state is None else run.state.state_details.scheduled_time


def work(flow: Flow[..., Any], horizon_s: float = 5.0, limit: int | None = None) -> list[str]:
    """Run what is scheduled for `flow` up to `horizon_s` seconds from now, `limit` of them where one is given; the
    states that the runs ended in."""
    ended = []
    for run in due_runs(flow.name, horizon_s)[:limit]:
        # A worker starts a run in a process that ends when the run suspends; here only the exception is left of that.
        with suppress(Pause):
            run_flow(flow, flow_run=run, parameters=run.parameters, return_type="state")
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
        assert state is not None
        ended.append(state.name or state.type.value)
    return ended
