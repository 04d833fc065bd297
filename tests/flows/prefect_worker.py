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


def work(flow: Flow[..., Any], horizon_s: float = 5.0) -> list[str]:
    """Run everything that is scheduled for `flow` up to `horizon_s` from now; the states that the runs ended in."""
    due = datetime.now(UTC) + timedelta(seconds=horizon_s)
    ended = []
    for run in runs_of(flow.name, StateType.SCHEDULED):
        if run.state is None or run.state.state_details.scheduled_time is None:
            continue
        if run.state.state_details.scheduled_time > due:
            continue
        # A worker starts a run in a process that ends when the run suspends; here only the exception is left of that.
        with suppress(Pause):
            run_flow(flow, flow_run=run, parameters=run.parameters, return_type="state")
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
        assert state is not None
        ended.append(state.name or state.type.value)
    return ended
