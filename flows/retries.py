"""Which failures are worth another try.

A refusal of ours says the same the second time; a busy disk or database may not.
"""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from penstock.errors import PenstockError


def transient(task: "Task[..., Any]", run: TaskRun, state: "State[Any]") -> bool:
    """True when the failure was not raised by penstock on purpose."""
    failure = state.result(raise_on_failure=False)
    return not isinstance(failure, PenstockError)


# Nothing is cached: a stage's own record in the state database decides whether it was done before.
STAGE: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [1, 10],
    "retry_condition_fn": transient,
    "cache_policy": NO_CACHE,
}
