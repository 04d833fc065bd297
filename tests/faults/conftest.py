"""How much is tried: a short cut of each fault in the suite, all of it under `make faults`, whose counts are printed
and kept (docs/reliability.md)."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fault_trials import FULL, Trials
from fault_world import World, make_world

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"


class Figures(dict[str, dict[str, object]]):
    """What was tried and came out, by fault; kept at once, so that a run that is cut off keeps what it has."""

    def __setitem__(self, fault: str, found: dict[str, object]) -> None:
        super().__setitem__(fault, {**found, "on": datetime.now(UTC).date().isoformat()})
        if FULL:
            before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            RESULTS.write_text(json.dumps(before | self, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def trials() -> Trials:
    """How often to try."""
    return Trials()


@pytest.fixture(scope="session")
def figures() -> dict[str, dict[str, object]]:
    """What was tried and came out, by fault; kept under `make faults`."""
    return Figures()


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A shop with a champion and a log to come."""
    return make_world(tmp_path_factory.mktemp("shop"), 60)


@pytest.fixture
def world(made_world: World) -> World:
    """That shop as it was made."""
    made_world.restore()
    return made_world
