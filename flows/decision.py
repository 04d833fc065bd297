"""A person's decision, as the promotion flow waits for it and as it is handed to it."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_runs import resume_flow_run
from prefect.input import RunInput

from penstock.errors import ApprovalError

PROMOTION = "promotion"


class Decision(RunInput):
    """What the form on Prefect's page asks for."""

    approve: bool
    actor: str
    reason: str


def waiting() -> dict[str, UUID]:
    """The suspended promotion run of each version that waits for a decision."""
    return {version: run.id for version, run in _suspended().items()}


def params_of(version: str) -> Path | None:
    """The settings' file that the run waiting for a decision about this version was started with.

    Raises:
        ApprovalError: no promotion run waits for this version.
    """
    given = _run_of(version).parameters.get("params")
    return None if given is None else Path(given)


def _suspended() -> dict[str, FlowRun]:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[PROMOTION])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            ),
        )
    return {str(run.parameters["version"]): run for run in runs}


def _run_of(version: str) -> FlowRun:
    runs = _suspended()
    if version not in runs:
        raise ApprovalError(
            f"version {version}: no promotion run waits for a decision, waiting are {sorted(runs) or 'none'}; "
            f"decide with: penstock approve {version}"
        )
    return runs[version]


def resume(version: str, decision: Decision) -> UUID:
    """Hand a decision to the promotion run that waits for it.

    Returns:
        the id of the run, which goes on where a worker picks it up.

    Raises:
        ApprovalError: no promotion run waits for this version.
    """
    run = _run_of(version).id
    resume_flow_run(run, run_input={name: getattr(decision, name) for name in ("approve", "actor", "reason")})
    return run
