"""The watch period of the version that serves: counted as answers come in, rolled back as soon as it is worse.

It runs in the service, because that is where the answers are; with several replicas each of them counts, and the
compare-and-swap of the rollback lets one of them act. What is needed is in the state database, so a restart goes on.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.data.state import State, to_micros
from penstock.errors import BundleError, LeaseHeld, RegistryError
from penstock.registry import watch_period as record
from penstock.registry.watch_period import ACTOR, Compared, Counted, Period
from penstock.serving.answer_log import LAG_FLUSHES, answers
from penstock.settings import Settings

SLACK_FLUSHES = LAG_FLUSHES + 2
"""An answer is counted this many flushes after its wait is over: then its click, if any, is surely marked."""

log = logging.getLogger(__name__)


class WatchPeriod:
    """Looks once at every call of `look`.

    Args:
        registry: a registry.store.Registry.
        switched: called after a rollback, so that the service takes it up at once.
    """

    def __init__(self, registry: Any, state: State, settings: Settings, switched: Callable[[], object]) -> None:
        self.registry, self.state = registry, state
        self.settings, self._switched = settings.promotion, switched
        self.environment = settings.registry.environment
        self._slack_s = SLACK_FLUSHES * settings.service.answers_flush_s
        self._live: dict[int, tuple[datetime, Counted]] = {}

    def look(self, now: datetime) -> None:
        """Count what came in since, and end the periods that are over or decided."""
        for period in record.periods(self.state, self.environment, under_way=True):
            serving = self.registry.champion_pointer()
            live = self._count_live(period, now)
            compared = record.compare(period.expected, live, self.settings) if period.expected else []
            if serving is None or serving[0] != period.number:
                after = "nothing" if serving is None else f"version {serving[0]}"
                self._end(period, "overtaken", live, compared, f"{after} serves now", now)
            elif period.expected is None:
                self._expect(period)
            elif any(one.worse for one in compared):
                self._roll_back(period, live, compared, now)
            elif now >= period.ends_at + timedelta(seconds=self.settings.watch_click_wait_s + self._slack_s):
                self._conclude(period, live, compared, now)

    def _expect(self, period: Period) -> None:
        since = period.started_at - timedelta(hours=self.settings.watch_expected_h)
        # Clicks that came after the promotion still count, but only answers whose wait was over by then.
        until = period.started_at - timedelta(seconds=self.settings.watch_click_wait_s)
        record.keep_expected(self.state, period, self._counted(period.previous, since, until))

    def _count_live(self, period: Period, now: datetime) -> Counted:
        """Answers since the promotion; the newest may still be clicked, but count as answered or failed already."""
        since, counted = self._live.get(period.promotion_id, (period.started_at, Counted()))
        over = now - timedelta(seconds=self.settings.watch_click_wait_s + self._slack_s)
        until = max(since, min(over, period.ends_at))
        counted += self._counted(period.number, since, until)
        self._live[period.promotion_id] = until, counted
        recent = self._counted(period.number, until, min(now, period.ends_at))
        return counted + Counted(recent.answers, 0, recent.failed, recent.answers - recent.failed)

    def _counted(self, version: str, since: datetime, until: datetime) -> Counted:
        """Answers of a version from `since` until before `until`."""
        wait = int(self.settings.watch_click_wait_s * 1e6)
        in_time = sa.case((answers.c.clicked_at <= answers.c.at + wait, 1), else_=0)
        wrong = sa.case((answers.c.failed, 1), else_=0)
        query = sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(in_time), 0), sa.func.coalesce(sa.func.sum(wrong), 0)
        ).where(answers.c.version == version, answers.c.at >= to_micros(since), answers.c.at < to_micros(until))
        with self.state.read() as conn:
            return Counted(*(int(value) for value in conn.execute(query).one()))

    def _roll_back(self, period: Period, live: Counted, compared: list[Compared], now: datetime) -> None:
        from penstock.registry.promotion import rollback

        why = "; ".join(one.sentence() for one in compared if one.worse)
        reason = f"worse than version {period.previous} over {live.answers} answers: {why}"
        try:
            rollback(self.registry, self.state, ACTOR, reason, period.previous, now, expect_champion=period.number)
        except LeaseHeld as error:
            log.warning("watch period of version %s: %s; tried again", period.number, error)
            return
        except (RegistryError, BundleError) as error:
            serving = self.registry.champion_pointer()
            if serving is not None and serving[0] == period.number:
                log.error("version %s is %s, and cannot be rolled back: %s", period.number, reason, error)
                self._end(period, "stuck", live, compared, f"{reason}; the rollback failed: {error}", now)
                return
        self._switched()
        log.warning("version %s was rolled back to %s: %s", period.number, period.previous, reason)
        self._end(period, "rolled_back", live, compared, reason, now)

    def _conclude(self, period: Period, live: Counted, compared: list[Compared], now: datetime) -> None:
        missing = [one.name for one in compared if one.limit is None]
        if missing:
            before = 0 if period.expected is None else period.expected.told
            why = (
                f"{', '.join(missing)}: {live.told} answers since, {before} before, "
                f"{self.settings.watch_min_answers} of each are needed; it stays, unjudged"
            )
            self._end(period, "unmeasured", live, compared, why, now)
        else:
            self._end(period, "kept", live, compared, "; ".join(one.sentence() for one in compared), now)

    def _end(
        self, period: Period, outcome: record.Outcome, live: Counted, compared: list[Compared], why: str, now: datetime
    ) -> None:
        record.end(self.state, period, outcome, live, compared, why, now)
        self._live.pop(period.promotion_id, None)
