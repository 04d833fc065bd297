"""Invariant 6 through the service: what it reads of a stream is what training reads of the same stream."""

from datetime import timedelta

import numpy as np
from serving_fakes import NOW, SPEC, World, event

from penstock.features.state import CausalState
from penstock.records import EVENT_COLUMNS


def stream(count: int) -> list[dict[str, object]]:
    """Events of a few users on a few items, every fifth arriving after a later one."""
    random = np.random.default_rng(4)
    rows = []
    for number in range(count):
        minutes = number - (7 if number % 5 == 4 else 0)
        kind = ("impression", "click", "purchase")[int(random.integers(3))]
        user, item = f"u{random.integers(3)}", f"i{random.integers(8)}"
        rows.append(event(number, user, item, kind, NOW - timedelta(hours=2) + timedelta(minutes=minutes)))
    return rows


def test_posted_one_by_one_equals_training_in_order_of_time(world: World) -> None:
    for row in stream(60):
        assert world.client.post("/v1/events", json=row).status_code == 202
    served = world.scorers["first"].state
    trained = CausalState(SPEC)
    trained.add_items(world.scorers["first"].items)
    trained.observe(world.journal.read(0, 1000).select(list(EVENT_COLUMNS)).sort("at", "event_id"))
    rows, at_s = np.arange(12), NOW.timestamp()
    pairs = [name for name in SPEC.names if name.startswith(("cooccurrence", "follows"))]
    exact = [index for index, name in enumerate(SPEC.names) if name not in pairs]
    for user in ("u0", "u1", "u2", "stranger"):
        here, there = (state.features(state.histories.of(user), rows, at_s) for state in (served, trained))
        np.testing.assert_allclose(here[:, exact], there[:, exact], rtol=1e-5, atol=1e-6)
        assert served.histories.of(user).row_L.tolist() == trained.histories.of(user).row_L.tolist()


def test_without_late_events_every_feature_is_the_same(world: World) -> None:
    rows_sent = sorted(stream(60), key=lambda row: (str(row["at"]), str(row["event_id"])))
    for row in rows_sent:
        world.client.post("/v1/events", json=row)
    served, trained = world.scorers["first"].state, CausalState(SPEC)
    trained.add_items(world.scorers["first"].items)
    trained.observe(world.journal.read(0, 1000).select(list(EVENT_COLUMNS)).sort("at", "event_id"))
    for user in ("u0", "u1", "u2"):
        here, there = (
            state.features(state.histories.of(user), np.arange(12), NOW.timestamp()) for state in (served, trained)
        )
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
