"""Many promoters at once: one winner in each race, and the log of decisions holds together."""

import threading
from pathlib import Path

from fault_trials import Trials
from registry_bench import NOW, Bench, check_fake, settings_under

from penstock.data.state import open_state
from penstock.errors import LeaseHeld, RegistryError
from penstock.registry import audit
from penstock.registry.promotion import approve, promote
from penstock.registry.store import open_registry


def test_of_two_promoters_one_wins(tmp_path: Path, trials: Trials, figures: dict[str, dict[str, object]]) -> None:
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    state.ensure()
    bench = Bench(tmp_path, settings, state, open_registry(settings, state, check_fake))
    bench.champion()
    others = [open_state(settings.state.url) for _ in range(2)]
    registries = [open_registry(settings, other, check_fake) for other in others]
    for registry in registries:
        registry.versions()
    count, winners = trials(5, 1_000), []
    for _ in range(count):
        serving = bench.serving()
        versions = [bench.challenger() for _ in range(2)]
        for version in versions:
            approve(bench.registry, state, version.number, "ada", "better", NOW)
        won = race([version.number for version in versions], serving, registries, others)
        assert len(won) == 1, won
        assert bench.serving() == won[0]
        winners.append(won[0])
    assert [promotion.number for promotion in bench.registry.history()][1:] == winners
    assert audit.verify(state).ok
    for engine in (state, *others):
        engine.engine.dispose()
    figures["races of two promoters"] = {"races": count, "with one winner": count}


def race(numbers: list[str], serving, registries, states) -> list[str]:  # type: ignore[no-untyped-def]
    """Who won; each promoter has a connection and a thread of its own."""
    start, won = threading.Barrier(len(numbers)), []

    def run(index: int) -> None:
        start.wait()
        try:
            promote(registries[index], states[index], numbers[index], f"ada {index}", "better", serving, NOW)
            won.append(numbers[index])
        except (LeaseHeld, RegistryError):
            pass

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(numbers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won
