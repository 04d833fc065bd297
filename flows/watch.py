"""Put right what a crash left behind: aliases, flow runs that nobody runs, promotions decided elsewhere.

Run it with no server as `python -m flows.watch`.
"""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import decision, runs
from penstock.data.state import open_state
from penstock.errors import LeaseHeld
from penstock.pipeline import upkeep
from penstock.pipeline.decisions import settled
from penstock.registry.retention import prune
from penstock.registry.store import open_registry
from penstock.settings import Settings, load_settings


@task(name="repair the registry", cache_policy=NO_CACHE)
def repair_registry(settings: Settings) -> list[str]:
    """MLflow says again what the state database says."""
    return open_registry(settings, open_state(settings.state.url)).reconcile(datetime.now(UTC))


@task(name="find interrupted rounds", cache_policy=NO_CACHE)
def find_interrupted_rounds(settings: Settings) -> list[str]:
    """Rounds whose worker died; the next round takes their snapshots up."""
    return upkeep.interrupted_rounds(open_state(settings.state.url), datetime.now(UTC))


@task(name="end dead flow runs", cache_policy=NO_CACHE)
def end_dead_runs(settings: Settings) -> list[str]:
    """Flow runs that read Running while no round holds the lease are marked Crashed."""
    if upkeep.round_is_running(open_state(settings.state.url), datetime.now(UTC)):
        return []
    return runs.crash_running("online_round", older_than_s=settings.state.lease_s)


@task(name="follow decisions", cache_policy=NO_CACHE)
def follow_decisions(settings: Settings) -> list[str]:
    """Promotion runs whose version was decided elsewhere are resumed with that decision, or cancelled."""
    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    done = []
    for version, run in decision.waiting().items():
        status = registry.version(version).status
        if status == "challenger":
            continue
        made = settled(registry, state, version)
        if made is None:
            runs.cancel(run, f"version {version} is {status}: nothing is left to decide")
        else:
            approve = made.decision == "approve"
            decision.resume(version, decision.Decision(approve=approve, actor=made.actor, reason=made.reason))
        done.append(f"promotion of version {version}: {status}")
    return done


@task(name="remove old bundles", cache_policy=NO_CACHE)
def remove_old_bundles(settings: Settings) -> list[str]:
    """Bundles beyond registry.keep_served and keep_unserved."""
    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    try:
        gone = prune(registry, state, datetime.now(UTC))
    except LeaseHeld:
        return []  # a promotion is going on; the next watch does it
    if not gone.versions:
        return []
    return [f"bundles removed: versions {', '.join(gone.versions)}, {gone.freed / 1e6:.0f} MB"]


@flow(name="watch")
def watch(params: Path | None = None) -> list[str]:
    """Everything that was put right or found, one line each; empty when all is well."""
    settings = load_settings(params)
    return [
        *repair_registry(settings),
        *find_interrupted_rounds(settings),
        *end_dead_runs(settings),
        *remove_old_bundles(settings),
        *follow_decisions(settings),
    ]


if __name__ == "__main__":
    print("\n".join(watch()) or "all is well")
