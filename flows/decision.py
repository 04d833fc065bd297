"""A person's decision, as the promotion flow waits for it and as it is handed to it."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
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
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[PROMOTION])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            ),
        )
    return {str(run.parameters["version"]): run.id for run in runs}


def resume(version: str, decision: Decision) -> UUID:
    """Hand a decision to the promotion run that waits for it.

    Returns:
        the id of the run, which goes on where a worker picks it up.

    Raises:
        ApprovalError: no promotion run waits for this version.
    """
    runs = waiting()
    if version not in runs:
        raise ApprovalError(
            f"version {version}: no promotion run waits for a decision, waiting are {sorted(runs) or 'none'}; "
            f"decide with: penstock approve {version}"
        )
    resume_flow_run(runs[version], run_input={name: getattr(decision, name) for name in ("approve", "actor", "reason")})
    return runs[version]
