"""Flow runs whose recorded state is not what is true."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Crashed


def crash_running(flow_name: str, older_than_s: float) -> list[str]:
    """Mark runs of a flow that read Running, and began longer ago than that, as Crashed; one line each.

    Prefect itself notices a killed process only after many minutes, and until then the run holds its slot.
    """
    before = datetime.now(UTC) - timedelta(seconds=older_than_s)
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
                start_time=FlowRunFilterStartTime(before_=before),
            ),
        )
        for run in found:
            state = Crashed(message="its worker no longer holds the lease 'round'")
            client.set_flow_run_state(run.id, state, force=True)
    return [f"flow run {run.name}: Running -> Crashed" for run in found]


def cancel(run: UUID, why: str) -> None:
    """End a suspended run that has nothing left to wait for."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled(message=why), force=True)
