"""After a promotion: is what the new champion brings worse than what the one before brought?

The figures are looked at every second, so a fixed-sample interval would cross its threshold by chance sooner or later.
The new champion's shares therefore get a confidence sequence, valid at every look at once: the beta-binomial mixture
of Robbins (1970), as in Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences" (2021). What was expected is measured once, before, so a Wilson interval does. The two are compared by
their near ends: cautious, which is right where the answer is to undo somebody's decision. Answers count as
independent; a user who asks often makes the interval narrower than it should be.
"""

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any, Literal

import sqlalchemy as sa

from penstock.data.state import State
from penstock.registry.audit import append
from penstock.registry.tables import from_micros, to_micros
from penstock.registry.tables import watch_periods as table
from penstock.settings import PromotionSettings

ACTOR = "watch period"
Outcome = Literal["kept", "rolled_back", "overtaken", "unmeasured", "stuck"]


@dataclass(frozen=True)
class Counted:
    """Answers of one version: all, followed by a click within the wait, failed, and too new to tell."""

    answers: int = 0
    clicked: int = 0
    failed: int = 0
    waiting: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.answers + other.answers,
            self.clicked + other.clicked,
            self.failed + other.failed,
            self.waiting + other.waiting,
        )

    @property
    def told(self) -> int:
        """Answers of which it is known whether they were clicked."""
        return self.answers - self.failed - self.waiting


@dataclass(frozen=True)
class Compared:
    """One share before and since, with intervals; `limit`: beyond it the new one is worse."""

    name: str
    expected: float | None
    expected_low: float
    expected_high: float
    live: float | None
    live_low: float
    live_high: float
    limit: float | None
    worse: bool

    def sentence(self) -> str:
        """The comparison in words."""
        shown = ", ".join(f"{share:.2%}" if share is not None else "none" for share in (self.live, self.expected))
        live, expected = shown.split(", ")
        limit = "no limit, too little is known" if self.limit is None else f"limit {self.limit:.2%}"
        return (
            f"{self.name} {live} ({self.live_low:.2%} to {self.live_high:.2%}), expected {expected} "
            f"({self.expected_low:.2%} to {self.expected_high:.2%}), {limit}"
        )


@dataclass(frozen=True)
class Period:
    """One watch period. `expected`: what the champion before brought, None until it was counted."""

    promotion_id: int
    number: str
    previous: str
    started_at: datetime
    ends_at: datetime
    expected: Counted | None
    outcome: Outcome | None
    verdict: dict[str, Any] | None
    ended_at: datetime | None


def begin(
    conn: sa.Connection, environment: str, promotion_id: int, number: str, previous: str, minutes: float, now: datetime
) -> None:
    """Note, in the promotion's transaction, that what it brings is watched."""
    ends_at = now + timedelta(minutes=minutes)
    row = {"promotion_id": promotion_id, "environment": environment, "number": number, "previous": previous}
    conn.execute(sa.insert(table).values(**row, started_at=to_micros(now), ends_at=to_micros(ends_at)))


def periods(state: State, environment: str, *, under_way: bool = False) -> list[Period]:
    """The watch periods of an environment, oldest first; only those that last where asked for."""
    query = sa.select(table).where(table.c.environment == environment).order_by(table.c.promotion_id)
    if under_way:
        query = query.where(table.c.outcome.is_(None))
    with state.read() as conn:
        return [_period(row) for row in conn.execute(query).mappings()]


def keep_expected(state: State, period: Period, expected: Counted) -> None:
    """Keep what was expected, so that a restart compares with the same."""
    with state.write() as conn:
        mine = (table.c.promotion_id == period.promotion_id) & table.c.expected.is_(None)
        conn.execute(sa.update(table).where(mine).values(expected=json.dumps(asdict(expected))))


def end(
    state: State, period: Period, outcome: Outcome, live: Counted, compared: list[Compared], why: str, now: datetime
) -> bool:
    """End a period, figures and all, in the audit log too; False where somebody else ended it."""
    verdict = {
        "outcome": outcome,
        "reason": why,
        "previous": period.previous,
        "expected": None if period.expected is None else asdict(period.expected),
        "live": asdict(live),
        "compared": [asdict(one) for one in compared],
    }
    ended = {"outcome": outcome, "verdict": json.dumps(verdict), "ended_at": to_micros(now)}
    with state.write() as conn:
        mine = (table.c.promotion_id == period.promotion_id) & table.c.outcome.is_(None)
        if conn.execute(sa.update(table).where(mine).values(**ended)).rowcount == 0:
            return False
        append(conn, ACTOR, "watch-period", f"version:{period.number}", verdict, now)
    return True


def compare(expected: Counted, live: Counted, settings: PromotionSettings) -> list[Compared]:
    """Click rate and error rate, since and before.

    The chance of calling a version worse that is not is at most 1 - watch_confidence over the whole period: a quarter
    of it for each of the four intervals.
    """
    alpha = (1 - settings.watch_confidence) / 4
    enough = min(expected.told, live.told) >= settings.watch_min_answers
    low, high = wilson(expected.clicked, expected.told, alpha)
    live_low, live_high = confidence_sequence(live.clicked, live.told, alpha)
    limit = low * (1 - settings.watch_click_rate_drop) if enough else None
    clicks = Compared(
        "click rate", _share(expected.clicked, expected.told), low, high, _share(live.clicked, live.told), live_low,
        live_high, limit, limit is not None and live_high < limit,
    )  # fmt: skip
    # Without a past nothing is known to have failed, and failing is not forgiven for want of one.
    known = expected.answers >= settings.watch_min_answers
    low, high = wilson(expected.failed, expected.answers, alpha) if known else (0.0, 0.0)
    live_low, live_high = confidence_sequence(live.failed, live.answers, alpha)
    limit = high + settings.watch_error_rate_rise
    errors = Compared(
        "error rate", _share(expected.failed, expected.answers), low, high, _share(live.failed, live.answers), live_low,
        live_high, limit, live_low > limit,
    )  # fmt: skip
    return [clicks, errors]


def wilson(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share, at confidence 1 - alpha; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - alpha / 2)
    share, damped = hits / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / damped
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / damped
    return max(0.0, middle - half), min(1.0, middle + half)


def confidence_sequence(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """An interval for a share that holds at every number of trials at once with probability 1 - alpha.

    All p at which the mixture's likelihood, Beta(1/2 + hits, 1/2 + misses) / Beta(1/2, 1/2), is below 1/alpha times
    that of p (Ville's inequality). (0, 1) without trials.
    """
    if not trials:
        return 0.0, 1.0
    misses = trials - hits
    mixture = _log_beta(hits + 0.5, misses + 0.5) - _log_beta(0.5, 0.5)

    def inside(p: float) -> bool:
        likelihood = (hits * math.log(p) if hits else 0.0) + (misses * math.log1p(-p) if misses else 0.0)
        return mixture - likelihood < -math.log(alpha)

    share = hits / trials
    low = 0.0 if not hits else _edge(inside, share, 0.0)
    high = 1.0 if not misses else _edge(inside, share, 1.0)
    return low, high


def _edge(inside: Any, within: float, beyond: float) -> float:
    """Where `inside` ends between the share itself and 0 or 1, by halving; on the outer side of the edge."""
    for _ in range(50):
        middle = (within + beyond) / 2
        if middle in (within, beyond):
            break
        if inside(middle):
            within = middle
        else:
            beyond = middle
    return beyond


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _share(hits: int, trials: int) -> float | None:
    return hits / trials if trials else None


def _period(row: Any) -> Period:
    values = {name: row[name] for name in ("promotion_id", "number", "previous", "outcome")}
    for name in ("started_at", "ends_at", "ended_at"):
        values[name] = None if row[name] is None else from_micros(row[name])
    expected = None if row["expected"] is None else Counted(**json.loads(row["expected"]))
    verdict = None if row["verdict"] is None else json.loads(row["verdict"])
    return Period(**values, expected=expected, verdict=verdict)
