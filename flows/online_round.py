"""One round: close a snapshot, validate it, score it, learn from it, gate the result, register it.

Never two at once (the lease 'round', with fencing), the same snapshot never twice (its row in the state database).
Run it with no server as `python -m flows.online_round`.
"""

from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment

from flows.retries import STAGE
from penstock.records import RoundResult
from penstock.settings import Settings, load_settings
from penstock.training import pipeline

PROMOTION = "promotion/promotion"


@task(name="close snapshot", **STAGE)
def close(settings: Settings) -> Any:
    """The next snapshot, or None when too little is pending."""
    return pipeline.close(settings)


@task(name="validate", **STAGE)
def validate(settings: Settings, manifest: Any) -> Any:
    """The snapshot's good rows; its bad rows are in quarantine."""
    return pipeline.validate(settings, manifest)


@task(name="score and learn", **STAGE)
def learn(settings: Settings, manifest: Any, validated: Any) -> Any:
    """Score the snapshot with the champion, then learn from it and export."""
    return pipeline.learn(settings, manifest, validated)


@task(name="gate", **STAGE)
def judge(settings: Settings, trained: Any) -> Any:
    """Every gate's verdict on the exported bundle."""
    return pipeline.judge(settings, trained)


@task(name="register", **STAGE)
def decide(settings: Settings, judged: Any) -> RoundResult:
    """Register the bundle; promote it when the policy says so and every gate passed."""
    return pipeline.decide(settings, judged)


@task(name="ask for a decision", cache_policy=NO_CACHE)
def ask(version: str, digest: str) -> None:
    """Start the promotion flow for a challenger that waits, once per bundle."""
    run_deployment(
        PROMOTION, parameters={"version": version}, timeout=0, as_subflow=False, idempotency_key=f"promotion-{digest}"
    )


@flow(name="online_round")
def online_round(params: Path | None = None) -> RoundResult | None:
    """Run one round; None when there was nothing to learn from.

    Args:
        params: the settings' file; else $PENSTOCK_PARAMS, else ./params.yaml.

    Raises:
        LeaseHeld: another round is running.
        SnapshotRefused: the snapshot failed validation and is in quarantine.
    """
    settings = load_settings(params)
    with pipeline.round_lease(settings):
        manifest = close(settings)
        if manifest is None:
            return None
        validated = validate(settings, manifest)
        trained = learn(settings, manifest, validated)
        judged = judge(settings, trained)
        result = decide(settings, judged)
    if result.outcome == "waiting" and runtime.deployment.id is not None:
        ask(result.version, result.bundle_digest)
    return result


if __name__ == "__main__":
    print(online_round())
