import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from serving_fakes import NOW, FakeJournal, FakeRegistry, FakeScorer, World, digest_of, event, loader

from penstock.features import cooccurrence
from penstock.serving.runtime import NotReady, Runtime

LATER = NOW + timedelta(seconds=1)


def test_nothing_serves_before_the_first_promotion(make_world: Callable[..., World]) -> None:
    world = make_world(champion=None)
    assert not world.runtime.poll()
    with pytest.raises(NotReady, match="registry has no champion"):
        world.runtime.current()


def test_a_new_champion_replaces_the_old_one(world: World) -> None:
    old = world.runtime.current()
    world.registry.serve("2", "second")
    assert world.runtime.poll()
    assert world.runtime.current().version == "2"
    assert old.version == "1", "whoever holds the old reference finishes on it"
    assert not world.runtime.poll(), "nothing to do while the pointer stays"


def test_a_bad_bundle_leaves_the_old_one_and_is_tried_once(world: World) -> None:
    world.registry.serve("2", "torn")
    assert not world.runtime.poll()
    assert not world.runtime.poll()
    assert world.runtime.current().version == "1"
    assert world.runtime.counts.failed == 1
    assert world.runtime.failure is not None
    assert "another sha256" in world.runtime.failure.error
    world.registry.serve("1", "first")
    world.runtime.poll()
    assert world.runtime.failure is None, "the pointer went back to what serves"


def test_another_bundle_than_the_registry_names_is_refused(world: World) -> None:
    world.scorers["second"].digest = digest_of("swapped on disk")
    world.registry.serve("2", "second")
    assert not world.runtime.poll()
    assert world.runtime.failure is not None
    assert "registry expects" in world.runtime.failure.error


def test_events_before_a_swap_reach_the_new_scorer_unless_it_learned_them(world: World) -> None:
    world.runtime.accept([event(1, at=NOW - timedelta(hours=1)) | {"at": NOW - timedelta(hours=1)}])
    world.runtime.accept([event(2) | {"at": LATER}])
    world.scorers["second"].learned_until = NOW.isoformat()
    world.registry.serve("2", "second")
    world.runtime.poll()
    assert world.scorers["first"].seen == ["e1", "e2"]
    assert world.scorers["second"].seen == ["e2"]


def test_events_during_the_load_reach_the_new_scorer(tmp_path: Path) -> None:
    registry, journal = FakeRegistry(tmp_path), FakeJournal()
    scorers = {"first": FakeScorer("first"), "second": FakeScorer("second")}
    load = loader(scorers)

    def slow(folder: Path) -> FakeScorer:
        scorer = load(folder)
        if folder.name == "second":
            runtime.accept([event(7) | {"at": LATER}])
        return scorer

    runtime = Runtime(registry, journal, slow, 60.0, clock=lambda: NOW)
    registry.serve("1", "first")
    runtime.poll()
    registry.serve("2", "second")
    runtime.poll()
    runtime.accept([event(8) | {"at": LATER}])
    assert scorers["first"].seen == ["e7"]
    assert scorers["second"].seen == ["e7", "e8"]


def test_events_of_another_process_are_followed(world: World) -> None:
    world.journal.append([event(1) | {"at": LATER}], NOW)
    world.runtime.poll()
    assert world.scorers["first"].seen == ["e1"]


def test_each_event_is_observed_once_whatever_the_number_of_threads(world: World) -> None:
    def send(start: int) -> None:
        for number in range(start, start + 20):
            world.runtime.accept([event(number) | {"at": LATER}])

    threads = [threading.Thread(target=send, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    world.registry.serve("2", "second")
    world.runtime.poll()
    for thread in threads:
        thread.join()
    accepted = [row["event_id"] for row in world.journal.rows]
    assert world.scorers["second"].seen == accepted
    assert len(set(accepted)) == len(accepted)


def test_a_replay_starts_where_older_entries_end(world: World) -> None:
    old = NOW - timedelta(days=1)
    world.journal.append([event(number) | {"at": old} for number in range(50)], NOW)
    world.journal.append([event(99) | {"at": LATER}], NOW)
    world.registry.serve("2", "second")
    world.runtime.poll()
    reads: list[int] = []
    read = world.journal.read
    world.journal.read = lambda since, limit: (reads.append(since), read(since, limit))[1]  # type: ignore[method-assign]
    world.scorers["third"] = FakeScorer("third")
    world.registry.serve("3", "third")
    world.runtime.poll()
    assert 50 in reads
    assert 0 not in reads, "the fifty entries known to be older are not read again"
    assert world.scorers["third"].seen == ["e99"]


def test_the_poller_survives_a_registry_that_fails_and_says_so(world: World) -> None:
    def broken() -> None:
        raise OSError("database is gone")

    pointer, world.registry.champion_pointer = world.registry.champion_pointer, broken  # type: ignore[method-assign]
    world.runtime.look()
    assert world.runtime.counts.poll_errors == 1
    assert "database is gone" in str(world.runtime.poll_error)
    world.registry.champion_pointer = pointer  # type: ignore[method-assign]
    world.runtime.look()
    assert world.runtime.poll_error is None


def test_the_thread_polls_until_stopped(tmp_path: Path) -> None:
    registry, scorers = FakeRegistry(tmp_path), {"first": FakeScorer("first")}
    runtime = Runtime(registry, FakeJournal(), loader(scorers), 0.01, clock=lambda: NOW)
    runtime.start()
    registry.serve("1", "first")
    until_s = time.monotonic() + 60
    while runtime.served is None and time.monotonic() < until_s:
        time.sleep(0.01)
    runtime.stop()
    assert runtime.current().version == "1"
    assert not any(thread.name == "penstock-poller" for thread in threading.enumerate())


def test_co_occurrences_are_folded_without_an_answer_in_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "NEARLY", 2)
    pairs = world.runtime.current().scorer.state.pairs
    one, two, three = (event(number, item=f"i{number}") | {"at": LATER} for number in (1, 2, 3))
    world.runtime.accept([one, two])
    assert (pairs.waiting_pairs, pairs.base_NN.nnz) == (2, 0)
    world.runtime.accept([three])
    assert (pairs.waiting_pairs, pairs.base_NN.nnz) == (0, 6)
    assert not world.runtime.current().lock.locked()
