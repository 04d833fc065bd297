"""How much is tried: a short cut of each fault in the suite, all of it under `make faults`, whose counts are printed
and kept (docs/reliability.md)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_trials import FULL, Trials
from fault_world import World, make_world

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"


@pytest.fixture(scope="session")
def trials() -> Trials:
    """How often to try."""
    return Trials()


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, dict[str, object]]]:
    """What was tried and came out, by fault; kept under `make faults`."""
    found: dict[str, dict[str, object]] = {}
    yield found
    if FULL and found:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(before | found, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, trials: Trials) -> World:
    """A shop with a champion and a long log to come; every test leaves it settled."""
    return make_world(tmp_path_factory.mktemp("shop"), trials(60, 2400))
