"""Wait for a person's decision on one challenger, then carry it out.

The run suspends: its process ends, and it runs again from the top once a decision arrives (Prefect's page,
`python -m flows.decide`). A decision made by `penstock approve` needs no run; `watch` then ends the one that waits.
Suspending needs a deployment: `prefect deployment run promotion/promotion -p version=7`.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import INPUTS, NO_CACHE, RUN_ID
from prefect.flow_runs import suspend_flow_run

from flows.decision import Decision
from penstock.data.state import open_state
from penstock.pipeline.decisions import settled
from penstock.registry.approvals import Sight
from penstock.registry.store import open_registry
from penstock.serving.decisions import Decisions
from penstock.settings import Settings, load_settings


@task(name="describe", cache_policy=INPUTS + RUN_ID)
def describe(version: str, digest: str) -> str:
    """What the person is asked, kept with the run: the second pass reads it instead of asking the registry."""
    return f"Promote version {version} (bundle {digest[:12]})? Its gate report: penstock show {version}"


@task(name="note what is shown", cache_policy=INPUTS + RUN_ID)
def note_shown(version: str, params: Path | None) -> str:
    """The binding of what the person is asked about, kept with the run: the decision counts for that alone."""
    settings = load_settings(params)
    registry = open_registry(settings, open_state(settings.state.url))
    return registry.binding(registry.version(version))


@task(name="carry out", cache_policy=NO_CACHE)
def carry_out(settings: Settings, version: str, decision: Decision, sight: Sight) -> str:
    """Approve or reject through the registry, unless just that was decided already; the version's status afterwards.

    Raises:
        AccessError: there are tokens, and a form on Prefect's page carries none.
        ApprovalError: the decision does not bind any more.
    """
    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    made = settled(registry, state, version)
    if made is None or (made.decision == "approve") != decision.approve:
        decisions = Decisions(registry, state)
        act = decisions.approve if decision.approve else decisions.reject
        act(version, decision.actor, decision.reason, datetime.now(UTC), sight=sight)
    return registry.version(version).status


@flow(name="promotion", persist_result=True)
def promotion(version: str, params: Path | None = None) -> str:
    """Suspend until a decision on `version` arrives; the version's status after it.

    Raises:
        ApprovalError: the decision came too late, or the champion changed in the meantime.
        AccessError: nobody who may decide.
        RegistryError: no such version.
    """
    settings = load_settings(params)
    digest = open_registry(settings, open_state(settings.state.url)).version(version).digest
    form: Any = Decision.with_initial_data(description=describe(version, digest))
    shown = note_shown(version, params)
    wait_s = int(settings.promotion.approval_expires_h * 3600)
    decision = suspend_flow_run(wait_for_input=form, key=f"decision-{version}", timeout=wait_s)
    assert decision is not None  # a form was given, so what comes back is what was filled in
    return carry_out(settings, version, decision, Sight(shown, f"run-{runtime.flow_run.id}"))
