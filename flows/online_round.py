"""One round: close a snapshot, validate it, score it, learn from it, gate the result, register it.

Never two at once (the lease 'round', with fencing), the same snapshot never twice (its row in the state database).
Run it with no server as `python -m flows.online_round`. The stages are imported when they run: torch takes seconds
that `prefect deploy` and a round with nothing to do should not pay.
"""

from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed, Failed

from flows.retries import STAGE
from penstock.errors import LeaseHeld, SnapshotRefused
from penstock.records import RoundResult, SnapshotManifest
from penstock.settings import Settings, load_settings

PROMOTION = "promotion/promotion"


@task(name="close snapshot", **STAGE)
def close(settings: Settings) -> SnapshotManifest | None:
    """The next snapshot, or None when too little is pending."""
    from penstock.pipeline import online

    return online.close(settings)


@task(name="validate", **STAGE)
def validate(settings: Settings, manifest: SnapshotManifest) -> Any:
    """The snapshot's good rows; its bad rows are in quarantine."""
    from penstock.pipeline import online

    return online.validate(settings, manifest)


@task(name="score and learn", **STAGE)
def learn(settings: Settings, manifest: SnapshotManifest, validated: Any) -> Any:
    """Score the snapshot with the champion, then learn from it and export."""
    from penstock.pipeline import online

    return online.learn(settings, manifest, validated)


@task(name="gate", **STAGE)
def judge(settings: Settings, trained: Any) -> Any:
    """Every gate's verdict on the exported bundle."""
    from penstock.pipeline import online

    return online.judge(settings, trained)


@task(name="register", **STAGE)
def decide(settings: Settings, judged: Any) -> RoundResult:
    """Register the bundle; promote it when the policy says so and every gate passed."""
    from penstock.pipeline import online

    return online.decide(settings, judged)


@task(name="ask for a decision", cache_policy=NO_CACHE)
def ask(version: str, digest: str, params: Path | None) -> None:
    """Start the promotion flow for a challenger that waits, once per bundle."""
    run_deployment(
        PROMOTION,
        parameters={"version": version, "params": None if params is None else str(params)},
        timeout=0,
        as_subflow=False,
        idempotency_key=f"promotion-{digest}",
    )


def run_stages(settings: Settings) -> RoundResult | None:
    """The stages in their order, under the lease; None when too little is pending.

    A refused snapshot and a round that could not learn are results, recorded by their stages; anything else that goes
    wrong leaves the snapshot closed, and the next round takes it up.

    Raises:
        LeaseHeld: another round is running.
    """
    from penstock.pipeline import online

    with online.round_lease(settings):
        manifest = close(settings)
        if manifest is None:
            return None
        try:
            trained = learn(settings, manifest, validate(settings, manifest))
        except SnapshotRefused as error:
            return online.stopped(manifest, "quarantined", error)
        except online.CANNOT_LEARN as error:
            return online.stopped(manifest, "failed", error)
        return decide(settings, judge(settings, trained))


@flow(name="online_round")
def online_round(params: Path | None = None) -> "State[RoundResult | None]":
    """Run one round. The state is named after its outcome, so that Prefect's page tells them apart.

    Args:
        params: the settings' file; else $PENSTOCK_PARAMS, else ./params.yaml.

    Returns:
        the RoundResult; None when there was nothing to do: too little pending, or another round is running.
    """
    settings = load_settings(params)
    try:
        result = run_stages(settings)
    except LeaseHeld as error:
        return Completed(name="Skipped", message=str(error))
    if result is None:
        return Completed(name="Nothing pending", message="fewer events are pending than a snapshot needs")
    if result.outcome == "waiting" and runtime.deployment.id and result.version and result.bundle_digest:
        ask(result.version, result.bundle_digest, params)
    end = Failed if result.outcome == "failed" else Completed
    return end(name=result.outcome.capitalize(), message=result.reason, data=result)


if __name__ == "__main__":
    print(online_round())
