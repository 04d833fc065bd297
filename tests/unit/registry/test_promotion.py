"""One champion at a time, whole and decided on, whatever happens half-way."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from registry_bench import NOW, Bench, check_fake

from penstock.data.state import open_state
from penstock.errors import ApprovalError, BundleError, LeaseHeld, LeaseLost, PenstockError, RegistryError
from penstock.registry import audit
from penstock.registry.approvals import list_approvals
from penstock.registry.promotion import STEPS, approve, promote, reject, rollback
from penstock.registry.store import Registry, open_registry


def test_an_approved_challenger_serves_and_everything_says_so(bench: Bench) -> None:
    version = bench.challenger()
    approval = approve(bench.registry, bench.state, "1", "ada", "looks right", NOW)
    promotion = promote(bench.registry, bench.state, "1", "ada", "looks right", None, NOW)

    pointer = bench.registry.champion_pointer()
    assert pointer is not None
    assert (pointer.number, pointer.digest) == ("1", version.digest)
    assert check_fake(pointer.bundle_dir) == version.digest
    assert bench.registry.champion() == bench.registry.version("1")
    assert bench.registry.version("1").status == "champion"
    assert bench.registry.version("1").tags["penstock.status"] == "champion"
    assert (bench.alias("champion"), bench.alias("challenger")) == ("1", None)
    assert (promotion.previous, promotion.approval_id, promotion.at) == (None, approval.id, NOW)
    assert bench.registry.history() == [promotion]
    entry = audit.entries(bench.state, "version:1")[-1]
    assert (entry.action, entry.actor, entry.details["approver"]) == ("promote", "ada", "ada")
    assert entry.details["report_digest"] == version.report_digest
    anchor = bench.registry.audit_anchor()
    assert anchor is not None
    assert audit.verify(bench.state, anchor).ok


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_one_whole_champion(bench: Bench, step: str) -> None:
    old, new = bench.champion(), bench.challenger()
    approve(bench.registry, bench.state, new.number, "ada", "better", NOW)

    def dies(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt(step)

    with pytest.raises(KeyboardInterrupt):
        promote(bench.registry, bench.state, new.number, "ada", "better", old.number, NOW, on_step=dies)

    swapped = STEPS.index(step) >= STEPS.index("committed")
    serving = new if swapped else old
    pointer = bench.registry.champion_pointer()
    assert pointer is not None
    assert (pointer.number, check_fake(pointer.bundle_dir)) == (serving.number, serving.digest)
    assert bench.alias("champion") in (old.number, new.number)
    assert audit.verify(bench.state).ok

    bench.registry.reconcile(NOW)
    assert bench.alias("champion") == serving.number
    if not swapped:  # nothing stands in the way of trying again, the approval is still unspent
        promote(bench.registry, bench.state, new.number, "ada", "better", old.number, NOW)
    assert bench.serving() == new.number
    assert bench.registry.version(old.number).status == "retired"


def test_an_mlflow_failure_after_the_swap_is_told_and_reconciled(bench: Bench) -> None:
    bench.challenger()
    approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    follow, bench.registry.follow = bench.registry.follow, _raise(RegistryError("disk full"))  # type: ignore[method-assign]
    with pytest.raises(RegistryError, match="version 1 serves now, but what follows failed: disk full"):
        promote(bench.registry, bench.state, "1", "ada", "fine", None, NOW)
    bench.registry.follow = follow  # type: ignore[method-assign]
    assert (bench.serving(), bench.alias("champion")) == ("1", None)
    assert [entry.action for entry in audit.entries(bench.state)] == ["register", "approve", "promote"]
    assert "alias champion: None -> 1" in bench.registry.reconcile(NOW)


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_a_damaged_bundle_is_not_promoted(bench: Bench, damage: str) -> None:
    old, new = bench.champion(), bench.challenger()
    approve(bench.registry, bench.state, new.number, "ada", "better", NOW)
    folder = bench.registry.bundle_dir(new)
    if damage == "altered":
        (folder / "payload.bin").write_bytes(b"other weights")
    elif damage == "cut":
        (folder / "payload.bin").unlink()
    else:
        folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(BundleError):
        promote(bench.registry, bench.state, new.number, "ada", "better", old.number, NOW)
    assert bench.serving() == old.number
    assert audit.entries(bench.state)[-1].action == "promote-refused"


def test_another_whole_bundle_in_its_place_is_not_promoted(bench: Bench) -> None:
    old, new = bench.champion(), bench.challenger()
    approve(bench.registry, bench.state, new.number, "ada", "better", NOW)
    for name in ("payload.bin", "manifest.txt"):
        content = (bench.registry.bundle_dir(old) / name).read_bytes()
        (bench.registry.bundle_dir(new) / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"holds bundle {old.digest[:12]}, expected {new.digest[:12]}"):
        promote(bench.registry, bench.state, new.number, "ada", "better", old.number, NOW)
    assert bench.serving() == old.number


def test_a_refused_or_stale_version_is_never_promoted_even_automatically(
    bench: Bench, reopened: Callable[[dict[str, object]], Registry]
) -> None:
    first = bench.champion()
    refused = bench.challenger(passed=False)
    late = bench.challenger()
    bench.champion()
    assert bench.registry.version(late.number).status == "retired"
    registry = reopened({"promotion.policy": "automatic"})
    for version, why in (
        (refused, r"verdict refused: ndcg"),
        (late, f"compared version {late.number} .* with bundle {first.digest[:12]}, but bundle"),
        (first, "served before; use rollback"),
    ):
        with pytest.raises(RegistryError, match=why):
            promote(registry, bench.state, version.number, "policy", "automatic", bench.serving(), NOW)
    assert bench.serving() == "4"


def test_automatic_policy_needs_no_person(bench: Bench, reopened: Callable[[dict[str, object]], Registry]) -> None:
    bench.challenger()
    registry = reopened({"promotion.policy": "automatic"})
    promotion = promote(registry, bench.state, "1", "penstock", "gates passed", None, NOW)
    assert (promotion.approval_id, bench.serving()) == (None, "1")


def test_another_champion_than_expected_refuses(bench: Bench) -> None:
    bench.champion()
    approve(bench.registry, bench.state, bench.challenger().number, "ada", "better", NOW)
    with pytest.raises(RegistryError, match="version 1 serves, the caller expected None"):
        promote(bench.registry, bench.state, "2", "ada", "better", None, NOW)
    with pytest.raises(RegistryError, match="version 1 already serves"):
        promote(bench.registry, bench.state, "1", "ada", "again", "1", NOW)
    assert bench.serving() == "1"


def test_of_two_promoters_at_once_one_wins(bench: Bench) -> None:
    old, first, second = bench.champion(), bench.challenger(), bench.challenger()
    for version in (first, second):
        approve(bench.registry, bench.state, version.number, "ada", "better", NOW)
    start = threading.Barrier(4)
    won: list[str] = []
    lost: list[PenstockError] = []

    def run(number: str) -> None:
        state = open_state(bench.settings.state.url)
        registry = open_registry(bench.settings, state, check_fake)
        registry.versions()
        start.wait()
        try:
            won.append(promote(registry, state, number, f"ada for {number}", "better", old.number, NOW).number)
        except (LeaseHeld, RegistryError) as error:
            lost.append(error)
        finally:
            state.engine.dispose()

    threads = [threading.Thread(target=run, args=(v.number,)) for v in (first, second, first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    assert bench.serving() == won[0] == bench.alias("champion")
    assert [promotion.number for promotion in bench.registry.history()] == [old.number, won[0]]
    assert audit.verify(bench.state).ok


def test_of_two_at_once_one_wins_a_hundred_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two swaps away from the same champion, again and again; MLflow, which only follows, is left out."""
    versions = {one.number: one for one in (bench.champion(), bench.champion(), bench.champion())}
    monkeypatch.setattr(Registry, "version", lambda self, number: versions[number])
    monkeypatch.setattr(Registry, "follow", lambda self: None)
    states = [open_state(bench.settings.state.url) for _ in range(2)]
    registries = [open_registry(bench.settings, state, check_fake) for state in states]
    start = threading.Barrier(2)

    def swap(place: int, to: str, serving: str) -> str:
        start.wait()
        try:
            rollback(registries[place], states[place], "ada", "race", to, NOW, expect_champion=serving)
        except (LeaseHeld, RegistryError) as error:
            return type(error).__name__
        return "won"

    with ThreadPoolExecutor(2) as pool:
        for race in range(100):
            serving = bench.serving()
            assert serving is not None
            others = [number for number in versions if number != serving]
            ended = list(pool.map(swap, range(2), others, [serving] * 2))
            assert ended.count("won") == 1, (race, ended)
            assert bench.serving() == others[ended.index("won")]
    history = bench.registry.history()
    assert len(history) == 3 + 100
    assert [one.token for one in history] == sorted({one.token for one in history}), "every swap has a later token"
    assert all(after.previous == before.number for before, after in itertools.pairwise(history))
    assert audit.verify(bench.state).ok
    for state in states:
        state.engine.dispose()


def test_a_promoter_that_lost_its_lease_cannot_write(bench: Bench) -> None:
    """The first stalls past its lease; the second takes over and wins; the first wakes up."""
    old, first, second = bench.champion(), bench.challenger(), bench.challenger()
    for version in (first, second):
        approve(bench.registry, bench.state, version.number, "ada", "better", NOW)
    later = NOW + timedelta(seconds=bench.settings.state.lease_s + 1)

    def stall(step: str) -> None:
        if step == "leased":
            promote(bench.registry, bench.state, second.number, "bob", "better", old.number, later)

    with pytest.raises(LeaseLost):
        promote(bench.registry, bench.state, first.number, "ada", "better", old.number, NOW, on_step=stall)
    assert bench.serving() == second.number


def test_a_promotion_under_way_holds_off_the_next(bench: Bench) -> None:
    old, first, second = bench.champion(), bench.challenger(), bench.challenger()
    for version in (first, second):
        approve(bench.registry, bench.state, version.number, "ada", "better", NOW)

    def intrude(step: str) -> None:
        if step == "leased":
            with pytest.raises(LeaseHeld):
                promote(bench.registry, bench.state, second.number, "bob", "better", old.number, NOW)

    promote(bench.registry, bench.state, first.number, "ada", "better", old.number, NOW, on_step=intrude)
    assert bench.serving() == first.number


def test_rolling_back_twice_goes_back_twice(bench: Bench) -> None:
    one, two, three = bench.champion(), bench.champion(), bench.champion()
    assert rollback(bench.registry, bench.state, "ada", "worse", now=NOW).number == two.number
    assert bench.alias("champion") == two.number
    assert rollback(bench.registry, bench.state, "ada", "still worse", now=NOW).number == one.number
    with pytest.raises(RegistryError, match="version 1 serves and none served before it"):
        rollback(bench.registry, bench.state, "ada", "even worse", now=NOW)
    again = rollback(bench.registry, bench.state, "ada", "it was fine", to=three.number, now=NOW)
    assert (again.kind, again.previous, bench.serving()) == ("rollback", one.number, three.number)
    assert bench.registry.version(one.number).status == "retired"
    assert rollback(bench.registry, bench.state, "ada", "no", now=NOW).number == one.number


def test_rollback_refuses_what_never_served_serves_or_was_rejected(bench: Bench) -> None:
    with pytest.raises(RegistryError, match="no version serves and none served before"):
        rollback(bench.registry, bench.state, "ada", "why not", now=NOW)
    one, two, waiting = bench.champion(), bench.champion(), bench.challenger()
    for to, why in ((waiting.number, "never served here"), (two.number, "already serves"), ("99", "no version '99'")):
        with pytest.raises(RegistryError, match=why):
            rollback(bench.registry, bench.state, "ada", "back", to=to, now=NOW)
    reject(bench.registry, bench.state, one.number, "ada", "leaks", NOW)
    with pytest.raises(RegistryError, match="none served before it"):
        rollback(bench.registry, bench.state, "ada", "back", now=NOW)
    with pytest.raises(RegistryError, match="version 1 was rejected"):
        rollback(bench.registry, bench.state, "ada", "back", to=one.number, now=NOW)
    with pytest.raises(RegistryError, match="needs a name and a reason"):
        rollback(bench.registry, bench.state, "ada", " ", to=one.number, now=NOW)
    assert bench.serving() == two.number


def test_a_challenger_judged_against_the_restored_champion_waits_again(bench: Bench) -> None:
    bench.champion()
    late = bench.challenger()
    bench.champion()
    rollback(bench.registry, bench.state, "ada", "worse", now=NOW)
    assert [version.number for version in bench.registry.challengers()] == [late.number]
    assert bench.alias("challenger") == late.number


def test_environments_have_champions_of_their_own(
    bench: Bench, reopened: Callable[[dict[str, object]], Registry]
) -> None:
    bench.champion()
    staging = reopened({"registry.environment": "staging"})
    assert staging.champion_pointer() is None
    assert staging.version("1").status == "challenger"


def test_the_version_that_served_leads_to_its_approver(bench: Bench, tmp_path: Path) -> None:
    bench.champion()
    (promotion,) = bench.registry.history()
    (approval,) = list_approvals(bench.state, "local", promotion.number)
    assert (approval.id, approval.actor, approval.used_at) == (promotion.approval_id, "ada", NOW)
    with pytest.raises(ApprovalError, match="already serves"):
        approve(bench.registry, bench.state, "1", "ada", "again", NOW)


def test_a_killed_promoter_leaves_the_old_champion_and_holds_the_next_off_until_its_lease_ends(bench: Bench) -> None:
    """A real kill inside the transaction: nothing of it is left but the lease, which runs out."""
    old, new = bench.champion(), bench.challenger()
    approve(bench.registry, bench.state, new.number, "ada", "better", NOW)
    program = """
import os, sys
from pathlib import Path
from registry_bench import NOW, check_fake, settings_under
from penstock.data.state import open_state
from penstock.registry.promotion import promote
from penstock.registry.store import open_registry
settings = settings_under(Path(sys.argv[1]))
state = open_state(settings.state.url)
die = lambda step: os._exit(9) if step == "written" else None
promote(open_registry(settings, state, check_fake), state, sys.argv[2], "ada", "better", sys.argv[3], NOW, die)
"""
    command = [sys.executable, "-c", program, str(bench.root), new.number, old.number]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    assert subprocess.run(command, env=environment, check=False).returncode == 9

    assert (bench.serving(), bench.alias("champion")) == (old.number, old.number)
    assert bench.registry.version(new.number).status == "challenger"
    assert audit.verify(bench.state).ok
    with pytest.raises(LeaseHeld):
        promote(bench.registry, bench.state, new.number, "ada", "better", old.number, NOW)
    later = NOW + timedelta(seconds=bench.settings.state.lease_s + 1)
    promote(bench.registry, bench.state, new.number, "ada", "better", old.number, later)
    assert bench.serving() == new.number


def _raise(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail
