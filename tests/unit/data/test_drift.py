"""A window like the others passes however small; another mix, other texts or another place in item space do not."""

from pathlib import Path

import numpy as np
import pytest
from stream_bench import event, manifest_for, settings_under, table

from penstock.data.drift import Acts, ItemSpace, acts_of, drift_rules, recalled, remember
from penstock.data.expectations import validate_snapshot
from penstock.data.state import open_state

SETTINGS = settings_under(Path("var"))
ITEMS = [f"i{number}" for number in range(40)]
RANDOM = np.random.default_rng(5)
TASTE = RANDOM.dirichlet(np.ones(40))
SPACE = ItemSpace(
    ITEMS,
    [f"c{number % 4}" for number in range(40)],
    np.array([100.0 + 5 * (number % 10) for number in range(40)]),
    RANDOM.normal(size=(40, 8)).astype(np.float32),
)


def window(share: np.ndarray, acts: int, seed: int) -> Acts:
    counts = np.random.default_rng(seed).multinomial(acts, share)
    return {item: int(count) for item, count in zip(ITEMS, counts, strict=True) if count}


PAST = [window(TASTE, 80 + 40 * (seed % 5), seed) for seed in range(20)]


@pytest.mark.parametrize("acts", [1, 3, 30, 300, 3000])
def test_the_same_taste_passes_at_any_size(acts: int) -> None:
    for seed in range(100, 120):
        rules, notes = drift_rules(window(TASTE, acts, seed), PAST, SPACE, SETTINGS.validation)
        assert [rule.name for rule in rules] == ["category mix", "text length", "embedding drift"]
        assert ([rule.name for rule in rules if rule.broken], notes) == ([], [])


@pytest.mark.parametrize(
    ("kept", "broken"),
    [
        ([n for n in range(40) if n % 4 == 0], "category mix"),
        ([n for n in range(40) if n % 10 == 9], "text length"),
        ([7], "embedding drift"),
    ],
)
def test_another_window_is_refused_by_name(kept: list[int], broken: str) -> None:
    share = np.zeros(40)
    share[kept] = 1 / len(kept)
    rules, _ = drift_rules(window(share, 400, 1), PAST, SPACE, SETTINGS.validation)
    assert broken in [rule.name for rule in rules if rule.broken]


def test_with_too_little_past_nothing_is_judged_and_said_so() -> None:
    rules, notes = drift_rules(PAST[0], PAST[:7], SPACE, SETTINGS.validation)
    assert rules == []
    assert notes == [
        "drift not judged: 7 recent snapshots with acts, at least 8 are needed (validation.drift_min_history); "
        f"{sum(PAST[0].values())} acts in this one"
    ]


def test_drift_refuses_a_snapshot_and_stands_in_the_record(tmp_path: Path) -> None:
    events = table([event(number, item_id="i7") for number in range(200)])
    acts = acts_of(events, SETTINGS.data.gains)
    assert acts == {"i7": 200}
    rules, _ = drift_rules(acts, PAST, SPACE, SETTINGS.validation)
    verdict = validate_snapshot(events, manifest_for(events), ITEMS, SETTINGS, [], tmp_path / "docs", rules)
    assert verdict.refused
    assert any(reason.startswith("embedding drift: found ") for reason in verdict.reasons)
    assert verdict.docs is not None
    assert "embedding_drift" in verdict.docs.read_text(encoding="utf-8")


def test_windows_are_remembered_in_their_order(tmp_path: Path) -> None:
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    manifests = [manifest_for(table([event(1)]), snapshot_id=f"s{n}") for n in range(3)]
    remember(state, "s2", {"i1": 4})
    remember(state, "s0", {"i2": 1})
    remember(state, "s0", {"i2": 2})
    assert recalled(state, manifests) == [{"i2": 2}, {"i1": 4}]
    state.engine.dispose()
