"""What rounds spent outlives the process, counts for 30 days, and once for a round that is judged again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core_bench import small_settings

from penstock.errors import LeaseLost
from penstock.pipeline import ledger
from penstock.pipeline.promotion_budget import note_judgement, round_budget
from penstock.settings import Settings

NOW = datetime(2026, 3, 2, tzinfo=UTC)
UNDECIDED, PLAIN = 0.6, 1e-6


def judged(settings: Settings, round_id: str, p_value: float, at: datetime) -> float:
    """Judge a round; the level it had."""
    state = ledger.opened(settings)
    budget = round_budget(settings.gates, state, round_id, at)
    note_judgement(settings, state, round_id, budget, p_value, at)
    return budget.level


def test_undecided_rounds_lower_the_level_for_thirty_days(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    first = judged(settings, "a", UNDECIDED, NOW)
    assert first == pytest.approx(0.25 * 0.2 * 0.05)
    assert judged(settings, "b", PLAIN, NOW + timedelta(hours=1)) < first
    assert judged(settings, "c", PLAIN, NOW + timedelta(hours=2)) == judged(
        settings, "d", PLAIN, NOW + timedelta(days=29)
    )
    later = round_budget(settings.gates, ledger.opened(settings), "e", NOW + timedelta(days=30, seconds=1))
    assert (later.level, later.spent, later.rounds) == (pytest.approx(first), 0.0, 3)


def test_a_round_judged_again_counts_once(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    levels = [judged(settings, "a", UNDECIDED, NOW + timedelta(minutes=n)) for n in range(3)]
    assert len(set(levels)) == 1
    budget = round_budget(settings.gates, ledger.opened(settings), "b", NOW + timedelta(hours=1))
    assert (budget.rounds, budget.spent) == (1, pytest.approx(levels[0] / 0.25))


def test_a_budget_lowered_below_what_is_spent_passes_nobody(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    for number in range(5):
        judged(settings, str(number), UNDECIDED, NOW)
    lowered = settings.override({"gates.false_promotions_per_month": 0.001})
    assert round_budget(lowered.gates, ledger.opened(settings), "next", NOW).level == 0.0


def test_a_worker_that_lost_its_lease_writes_nothing(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    state = ledger.opened(settings)
    with ledger.round_lease(settings) as lease:
        from penstock.data import leases

        leases.release(state, lease)
        leases.acquire(state, lease.name, "another", 60, datetime.now(UTC))
        with pytest.raises(LeaseLost):
            judged(settings, "a", UNDECIDED, NOW)
    assert round_budget(settings.gates, state, "b", NOW).rounds == 0
