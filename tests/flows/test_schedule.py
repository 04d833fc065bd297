"""The scheduler of `make up`: periods kept, slow runs survived, stop obeyed."""

import threading

from flows.schedule import Job, run_jobs


class Clock:
    """A clock that the jobs move; waiting jumps to the time waited for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stop(threading.Event):
    """Set after a time on the fake clock."""

    def __init__(self, clock: Clock, at_s: float) -> None:
        super().__init__()
        self.clock, self.at_s = clock, at_s

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.now = min(self.clock.now + (timeout or 0.0), self.at_s)
        if self.clock.now >= self.at_s:
            self.set()
        return self.is_set()


def starts(durations: dict[str, float], periods: dict[str, float], until_s: float) -> dict[str, list[float]]:
    clock = Clock()
    seen: dict[str, list[float]] = {name: [] for name in periods}

    def job(name: str) -> Job:
        def run() -> None:
            seen[name].append(clock.now)
            clock.now += durations.get(name, 0.0)

        return Job(name, periods[name], run)

    run_jobs([job(name) for name in periods], Stop(clock, until_s), clock)
    return seen


def test_each_job_keeps_its_period() -> None:
    assert starts({}, {"round": 10, "watch": 4}, 21) == {"round": [0, 10, 20], "watch": [0, 4, 8, 12, 16, 20]}


def test_a_slow_run_delays_and_is_not_made_up_for() -> None:
    assert starts({"round": 25}, {"round": 10}, 60) == {"round": [0, 25, 50]}


def test_a_job_that_is_always_late_does_not_starve_the_other() -> None:
    seen = starts({"round": 10}, {"round": 10, "watch": 10}, 45)
    assert len(seen["watch"]) >= 3


def test_stop_before_the_first_tick_runs_nothing() -> None:
    assert starts({}, {"round": 10}, 0) == {"round": []}
