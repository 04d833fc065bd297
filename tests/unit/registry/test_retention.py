"""What is removed of old bundles, and what never is."""

from datetime import timedelta

import pytest
from registry_bench import NOW, Bench

from penstock.data import leases
from penstock.errors import BundleError, LeaseHeld
from penstock.registry import audit
from penstock.registry.promotion import rollback
from penstock.registry.retention import GOING, prune
from penstock.registry.rollouts import start
from penstock.registry.store import Registry

LATER = NOW + timedelta(minutes=1)


def kept(bench: Bench, registry: Registry) -> set[str]:
    return {version.number for version in registry.versions() if registry.bundle_dir(version).is_dir()}


@pytest.fixture
def few(bench: Bench) -> Registry:
    """The bench's registry, keeping one that served before and two that never did."""
    changes = {"registry.keep_served": 1, "registry.keep_unserved": 2}
    bench.registry.settings = bench.settings.override(changes)
    return bench.registry


def test_the_champion_the_last_served_and_the_newest_stay(bench: Bench, few: Registry) -> None:
    served = [bench.champion() for _ in range(3)]
    asking = [bench.challenger() for _ in range(4)]
    found = prune(few, bench.state, LATER)
    assert found.versions == [served[0].number, asking[0].number, asking[1].number]
    assert found.superseded == [asking[0].number, asking[1].number]
    assert found.freed > 0
    assert kept(bench, few) == {served[1].number, served[2].number, asking[2].number, asking[3].number}
    assert few.version(asking[0].number).status == "rejected"
    assert [entry.action for entry in audit.entries(bench.state, f"version:{served[0].number}")][-1] == "prune"
    assert not list(few.bundles_dir.glob(f"{GOING}*"))
    assert few.gate_report(few.version(served[0].number)) is not None
    assert prune(few, bench.state, LATER).versions == []


def test_after_a_rollback_the_serving_version_stays_however_old(bench: Bench, few: Registry) -> None:
    first = bench.champion()
    others = [bench.champion() for _ in range(2)]
    rollback(few, bench.state, "ada", "better", to=first.number, now=NOW)
    prune(few, bench.state, LATER)
    assert kept(bench, few) == {first.number, others[-1].number}
    with pytest.raises(BundleError, match="keep_served"):
        rollback(few, bench.state, "ada", "back", to=others[0].number, now=LATER)
    assert bench.serving() == first.number


def test_the_one_challenger_that_waits_outlives_the_refused_ones_after_it(bench: Bench, few: Registry) -> None:
    bench.champion()
    waits = bench.challenger()
    refused = [bench.challenger(passed=False) for _ in range(4)]
    found = prune(few, bench.state, LATER)
    assert found.versions == [refused[0].number, refused[1].number]
    assert found.superseded == []
    assert few.bundle_dir(waits).is_dir()
    assert few.version(waits.number).status == "challenger"


def test_a_rollouts_challenger_stays(bench: Bench, few: Registry) -> None:
    bench.champion()
    tried = bench.challenger()
    start(few, bench.state, tried.number, "shadow", 0.1, "ada", "to see", NOW)
    for _ in range(3):
        bench.challenger()
    prune(few, bench.state, LATER)
    assert few.bundle_dir(tried).is_dir()
    assert few.version(tried.number).status == "challenger"


def test_nothing_is_removed_while_a_promotion_goes_on(bench: Bench, few: Registry) -> None:
    for _ in range(4):
        bench.challenger()
    lease = leases.acquire(bench.state, f"promotion:{few.environment}", "another", 600.0, NOW)
    with pytest.raises(LeaseHeld):
        prune(few, bench.state, LATER)
    assert len(kept(bench, few)) == 4
    leases.release(bench.state, lease)
    assert len(prune(few, bench.state, LATER).versions) == 2


def test_what_a_crash_left_half_removed_goes_with_the_next_call(bench: Bench, few: Registry) -> None:
    version = bench.champion()
    left = few.bundles_dir / f"{GOING}abc"
    left.mkdir()
    (left / "weights.bin").write_bytes(b"x" * 100)
    assert prune(few, bench.state, LATER).freed == 100
    assert not left.exists()
    assert few.bundle_dir(version).is_dir()
