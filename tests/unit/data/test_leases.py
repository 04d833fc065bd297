"""Never two holders, tokens only grow, and whoever lost a lease cannot write."""

import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_bench import NOW

from penstock.data import leases
from penstock.data.state import State, open_state
from penstock.errors import LeaseHeld, LeaseLost

LATER = NOW + timedelta(seconds=61)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    yield state
    state.engine.dispose()


def is_mine(state: State, lease: leases.Lease) -> bool:
    try:
        with state.write() as conn:
            leases.check(conn, lease)
    except LeaseLost:
        return False
    return True


def test_a_held_lease_is_refused_and_its_holder_named(state: State) -> None:
    leases.acquire(state, "round", "ada", 60, NOW)
    with pytest.raises(LeaseHeld, match=r"'round' is held by ada until 2026-03-02T12:01:00\+00:00 \(token 1\), bob"):
        leases.acquire(state, "round", "bob", 60, NOW + timedelta(seconds=59))
    with pytest.raises(LeaseHeld):
        leases.acquire(state, "round", "ada", 60, NOW)
    assert leases.acquire(state, "other", "bob", 60, NOW).token == 1


def test_whoever_lost_a_lease_cannot_write(state: State) -> None:
    slow = leases.acquire(state, "round", "ada", 60, NOW)
    assert is_mine(state, slow)
    quick = leases.acquire(state, "round", "bob", 60, LATER)
    assert quick.token == 2
    assert not is_mine(state, slow)
    with pytest.raises(LeaseLost, match=r"ada holds token 1, the database has token 2 of bob"):
        leases.renew(state, slow, 60, LATER)
    assert not leases.release(state, slow), "a release that comes late takes nothing from the new holder"
    assert is_mine(state, quick)


def test_a_released_lease_is_free_and_its_token_is_spent(state: State) -> None:
    first = leases.acquire(state, "round", "ada", 60, NOW)
    assert leases.release(state, first)
    assert not leases.release(state, first)
    assert leases.current(state, "round", NOW) is None
    with pytest.raises(LeaseLost, match=r"nobody \(released\)"):
        leases.renew(state, first, 60, NOW)
    assert leases.acquire(state, "round", "ada", 60, NOW).token == 2
    assert not is_mine(state, first)


def test_renewing_holds_others_off(state: State) -> None:
    lease = leases.acquire(state, "round", "ada", 60, NOW)
    renewed = leases.renew(state, lease, 60, NOW + timedelta(seconds=50))
    assert renewed.token == lease.token
    assert leases.current(state, "round", LATER) == renewed
    with pytest.raises(LeaseHeld):
        leases.acquire(state, "round", "bob", 60, LATER)


def test_a_lease_that_ran_out_and_that_nobody_took_can_be_renewed(state: State) -> None:
    lease = leases.acquire(state, "round", "ada", 60, NOW)
    assert leases.current(state, "round", LATER) is None
    assert leases.current(state, "round", NOW) == lease
    assert leases.renew(state, lease, 60, LATER).expires_at == LATER + timedelta(seconds=60)
    assert is_mine(state, lease)


def test_of_many_at_once_one_wins(state: State) -> None:
    start = threading.Barrier(6)
    won: list[int] = []
    lost: list[LeaseHeld] = []

    def run(number: int) -> None:
        start.wait()
        try:
            won.append(leases.acquire(state, "round", f"w{number}", 60, NOW).token)
        except LeaseHeld as error:
            lost.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(lost)) == ([1], 5)


STEPS = st.lists(st.tuples(st.sampled_from(["acquire", "renew", "release", "wait"]), st.integers(0, 2)), max_size=25)


@given(STEPS)
@settings(max_examples=15, deadline=None)
def test_whatever_happens_at_most_one_may_write_and_tokens_grow(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(f"sqlite:///{folder}/state.db")
        now, tokens = NOW, [0]
        held: dict[int, leases.Lease] = {}
        for action, worker in steps:
            if action == "wait":
                now += timedelta(seconds=40)
            elif action == "acquire":
                try:
                    held[worker] = leases.acquire(state, "round", f"w{worker}", 60, now)
                    tokens.append(held[worker].token)
                except LeaseHeld:
                    assert leases.current(state, "round", now) is not None
            elif worker in held and action == "release":
                leases.release(state, held.pop(worker))
            elif worker in held and is_mine(state, held[worker]):
                held[worker] = leases.renew(state, held[worker], 60, now)
            assert sum(is_mine(state, lease) for lease in held.values()) <= 1
        assert tokens == sorted(set(tokens))
        state.engine.dispose()
