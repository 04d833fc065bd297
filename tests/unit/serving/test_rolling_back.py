"""A worse version is rolled back by the service itself, once, with its figures, also across a restart."""

import time
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from serving_fakes import NOW
from whole_bench import Whole

from penstock.data.state import to_micros
from penstock.registry import audit
from penstock.registry.watch_period import Period, periods
from penstock.serving.answer_log import answers
from penstock.serving.watch_period import WatchPeriod

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def answered(whole: Whole, version: str, since: datetime, count: int, clicked: float, failed: float = 0.0) -> None:
    """`count` answers, one a second from `since` on; the shares of those clicked and failed spread evenly."""
    rows = []
    for place in range(count):
        at = to_micros(since + timedelta(seconds=place))
        wrong = int((place + 1) * failed) > int(place * failed)
        hit = not wrong and int((place + 1) * clicked) > int(place * clicked)
        rows.append(
            {
                "request_id": f"{version}-{since.timestamp()}-{place}",
                "at": at,
                "version": version,
                "failed": wrong,
                "clicked_at": at + 5_000_000 if hit else None,
                "body": b"{}",
            }
        )
    with whole.state.write() as conn:
        conn.execute(sa.insert(answers), rows)


@pytest.fixture
def promoted(whole: Whole) -> tuple[str, str]:
    """Two versions: the first served since yesterday, with a tenth of its answers clicked; the second since now."""
    first = whole.register("one")
    whole.runtime.decisions.approve(first, "Ada", "first", NOW - DAY)
    answered(whole, first, NOW - DAY / 2, 4000, 0.1)
    second = whole.register("two")
    whole.runtime.decisions.approve(second, "Ada", "second", NOW)
    whole.runtime.poll()
    assert whole.runtime.current().version == second
    return first, second


def watcher(whole: Whole) -> WatchPeriod:
    return WatchPeriod(whole.registry, whole.state, whole.settings, whole.runtime.poll)


def ended(whole: Whole) -> Period:
    (period,) = periods(whole.state, "local")
    return period


def test_fewer_clicks_roll_back_at_once_with_the_figures(whole: Whole, promoted: tuple[str, str]) -> None:
    first, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 2000, 0.02)
    watch.look(NOW)
    assert whole.runtime.current().version == second, "nothing can be said yet"
    began_s = time.monotonic()
    watch.look(NOW + 30 * MINUTE)
    assert whole.runtime.current().version == first, "registry and service both"
    assert time.monotonic() - began_s < 5
    assert whole.registry.champion_pointer()[0] == first  # type: ignore[index]
    period = ended(whole)
    assert period.outcome == "rolled_back"
    assert period.verdict is not None
    assert period.expected is not None
    assert (period.expected.answers, period.expected.clicked) == (4000, 400)
    assert period.verdict["live"]["clicked"] / period.verdict["live"]["answers"] == pytest.approx(0.02, abs=0.002)
    back, verdict = audit.entries(whole.state)[-2:]
    assert (back.actor, back.action, back.subject) == ("watch period", "rollback", f"version:{first}")
    assert "expected 10.00%" in back.details["reason"]
    assert verdict.details == period.verdict
    assert audit.verify(whole.state).ok
    watch.look(NOW + 31 * MINUTE)
    assert len(whole.registry.history()) == 3, "and that is the end of it"


def test_an_answer_counts_once_its_wait_is_over(whole: Whole, promoted: tuple[str, str]) -> None:
    _, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 1000, 0.0)
    wait = timedelta(seconds=whole.settings.promotion.watch_click_wait_s)
    watch.look(NOW)
    watch.look(NOW + wait)
    assert ended(whole).outcome is None, "clicks may still come"


def test_as_many_clicks_are_kept_at_the_end_with_the_figures(whole: Whole, promoted: tuple[str, str]) -> None:
    _, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 3000, 0.095)
    for minutes in range(63):
        watch.look(NOW + minutes * MINUTE)
    assert ended(whole).outcome is None, "the last answers' wait is not over"
    watch.look(NOW + 63 * MINUTE)
    period = ended(whole)
    assert period.outcome == "kept"
    assert period.verdict is not None
    assert period.verdict["live"] == {"answers": 3000, "clicked": 285, "failed": 0, "waiting": 0}
    assert whole.runtime.current().version == second
    assert audit.entries(whole.state)[-1].action == "watch-period"


def test_failing_rolls_back_without_waiting_for_clicks(whole: Whole, promoted: tuple[str, str]) -> None:
    first, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 20, 0.0, failed=1.0)
    watch.look(NOW + timedelta(seconds=20))
    watch.look(NOW + timedelta(seconds=21))
    assert whole.runtime.current().version == first
    verdict = ended(whole).verdict
    assert verdict is not None
    assert "error rate 100.00%" in verdict["reason"]


def test_a_restart_goes_on_with_the_same_figures(whole: Whole, promoted: tuple[str, str]) -> None:
    _, second = promoted
    answered(whole, second, NOW, 3000, 0.095)
    before = watcher(whole)
    before.look(NOW)
    before.look(NOW + 20 * MINUTE)
    with whole.state.write() as conn:
        conn.execute(
            sa.delete(answers).where(answers.c.at < to_micros(NOW))
        )  # what was expected is kept, not counted anew
    after = watcher(whole)
    after.look(NOW + 63 * MINUTE)
    verdict = ended(whole).verdict
    assert verdict is not None
    assert verdict["live"] == {"answers": 3000, "clicked": 285, "failed": 0, "waiting": 0}
    assert verdict["expected"] == {"answers": 4000, "clicked": 400, "failed": 0, "waiting": 0}


def test_of_two_replicas_one_rolls_back(whole: Whole, promoted: tuple[str, str]) -> None:
    _, second = promoted
    one, other = watcher(whole), watcher(whole)
    answered(whole, second, NOW, 2000, 0.0)
    for watch in (one, other):
        watch.look(NOW)
    for watch in (one, other, one):
        watch.look(NOW + 30 * MINUTE)
    assert [change.kind for change in whole.registry.history()] == ["promote", "promote", "rollback"]
    assert ended(whole).outcome == "rolled_back"


def test_the_next_promotion_ends_it(whole: Whole, promoted: tuple[str, str]) -> None:
    watch = watcher(whole)
    watch.look(NOW)
    third = whole.register("three")
    whole.runtime.decisions.approve(third, "Ada", "third", NOW + MINUTE)
    watch.look(NOW + 2 * MINUTE)
    before, now = periods(whole.state, "local")
    assert (before.outcome, now.outcome, now.number) == ("overtaken", None, third)


def test_without_enough_answers_it_stays_and_says_that_it_was_not_measured(
    whole: Whole,
    promoted: tuple[str, str],
) -> None:
    _, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 10, 0.0)
    watch.look(NOW)
    watch.look(NOW + 63 * MINUTE)
    period = ended(whole)
    assert period.outcome == "unmeasured"
    assert period.verdict is not None
    assert "10 answers since, 4000 before, 200 of each are needed" in period.verdict["reason"]
    assert whole.runtime.current().version == second


def test_it_does_not_go_back_to_a_broken_bundle(whole: Whole, promoted: tuple[str, str]) -> None:
    first, second = promoted
    watch = watcher(whole)
    answered(whole, second, NOW, 2000, 0.0)
    (whole.registry.bundle_dir(whole.registry.version(first)) / "weights.bin").write_text("tampered")
    watch.look(NOW)
    watch.look(NOW + 30 * MINUTE)
    assert whole.runtime.current().version == second
    period = ended(whole)
    assert period.outcome == "stuck"
    assert period.verdict is not None
    assert "the rollback failed" in period.verdict["reason"]
