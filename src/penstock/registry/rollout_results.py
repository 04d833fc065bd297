"""What each arm of a rollout came to: requests, users, choices within the window, errors, latency, with intervals.

A choice counts for the answer whose request_id the event names. The unit is the user: whole users are drawn for the
intervals, and the two arms hold different users, so they are drawn apart. The figures are looked at many times while a
rollout runs, which makes a canary end somewhat oftener than one minus the confidence says although it is as good; that
costs a rollout, never a user.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from penstock.data.state import State, events
from penstock.errors import GateError
from penstock.metrics import Floats
from penstock.registry.rollouts import Rollout, exposures
from penstock.registry.tables import to_micros
from penstock.settings import RolloutSettings


@dataclass(frozen=True)
class Arm:
    """One arm. `clicked`: answers that led to a choice; `told`: answers old enough to know, none of them failed.

    Rates are None without a trial, and a shadow has no click rate; intervals are None with fewer than two users.
    """

    name: str
    requests: int
    users: int
    failed: int
    told: int
    clicked: int
    click_rate: float | None
    click_rate_low: float | None
    click_rate_high: float | None
    error_rate: float | None
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Results:
    """Both arms, the difference challenger minus champion, and why a canary should end (None: it may go on).

    `agreement`: mean share of the champion's items that a shadow shows too, None in the other modes.
    """

    rollout: Rollout
    arms: tuple[Arm, ...]
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    agreement: float | None
    stop: str | None

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        tree = asdict(self)
        for name in ("started_at", "ended_at"):
            at = tree["rollout"][name]
            tree["rollout"][name] = None if at is None else at.isoformat()
        del tree["rollout"]["folder"]
        return tree


def results(
    state: State, rollout: Rollout, settings: RolloutSettings, positive_kinds: list[str], now: datetime
) -> Results:
    """Count, compare, and judge."""
    answers = answered(state, rollout, positive_kinds, settings.click_window_s)
    told = answers.filter(~pl.col("failed") & _is_told(settings.click_window_s, now))
    if rollout.mode == "shadow":
        told = told.filter(pl.col("arm") == "champion")  # nobody saw the shadow's lists, so nobody chose from them
    rng = np.random.default_rng(rollout.id)
    names = ("champion", "shadow") if rollout.mode == "shadow" else ("champion", "challenger")
    draws = {name: _draws(told.filter(pl.col("arm") == name), settings.resamples, rng) for name in names}
    tail = 100 * (1 - settings.confidence) / 2
    arms = tuple(_arm(name, answers, told, draws[name], tail) for name in names)
    difference = low = high = None
    if rollout.mode != "shadow" and all(arm.click_rate is not None for arm in arms):
        difference = (arms[1].click_rate or 0.0) - (arms[0].click_rate or 0.0)
        both = draws["challenger"], draws["champion"]
        if both[0] is not None and both[1] is not None:
            low, high = map(float, np.percentile(both[0] - both[1], [tail, 100 - tail]))
    agreement = _agreement(answers) if rollout.mode == "shadow" else None
    return Results(rollout, arms, difference, low, high, agreement, _verdict(rollout, arms, high, settings))


def answered(state: State, rollout: Rollout, positive_kinds: list[str], window_s: float) -> pl.DataFrame:
    """Every exposure with the items chosen from it within the window.

    Columns: request_id, arm, user_id, at (µs), elapsed_us, failed, items (JSON), clicks (list of item ids).
    """
    shown = sa.select(*(column for column in exposures.c if column.name != "rollout_id")).where(
        exposures.c.rollout_id == rollout.id
    )
    chosen = sa.select(events.c.request_id, events.c.item_id, events.c.received_at).where(
        events.c.seq > rollout.since_seq, events.c.request_id.is_not(None), events.c.kind.in_(positive_kinds)
    )
    schema = {"request_id": pl.String, "arm": pl.String, "user_id": pl.String, "at": pl.Int64, "elapsed_us": pl.Int64,
              "failed": pl.Boolean, "items": pl.String}  # fmt: skip
    with state.read() as conn:
        frame = pl.DataFrame([tuple(row) for row in conn.execute(shown)], schema=schema, orient="row")
        clicks = pl.DataFrame(
            [tuple(row) for row in conn.execute(chosen)],
            schema={"request_id": pl.String, "item_id": pl.String, "received_at": pl.Int64},
            orient="row",
        )
    near = clicks.join(frame.select("request_id", "at").unique("request_id"), on="request_id")
    near = near.filter((pl.col("received_at") - pl.col("at")).is_between(0, round(window_s * 1e6)))
    by_request = near.group_by("request_id").agg(clicks=pl.col("item_id").unique().sort())
    return frame.join(by_request, on="request_id", how="left").with_columns(pl.col("clicks").fill_null([]))


def _is_told(window_s: float, now: datetime) -> pl.Expr:
    """Answers whose window is over. A younger one that was clicked stays out as well: its like that were not clicked
    are not known yet."""
    return pl.col("at") <= to_micros(now - timedelta(seconds=window_s))


def told_placements(
    state: State, rollout: Rollout, settings: RolloutSettings, positive_kinds: list[str], now: datetime
) -> pl.DataFrame:
    """`placements` of a shadow rollout's answers whose window is over.

    Raises:
        GateError: there is none yet.
    """
    answers = answered(state, rollout, positive_kinds, settings.click_window_s)
    told = placements(answers.filter(_is_told(settings.click_window_s, now)))
    if told.is_empty():
        waiting = answers["request_id"].n_unique()
        raise GateError(
            f"off-policy: no answer of the champion with a shadow beside it is older than rollout.click_window_s "
            f"({settings.click_window_s:g} s), {waiting} are younger; wait for traffic and for their clicks"
        )
    return told


def placements(answers: pl.DataFrame) -> pl.DataFrame:
    """Logged placements of a shadow rollout, as evaluation.off_policy takes them, with the shadow's item beside each.

    A shadow ranks without dice, so it shows its item with certainty: `target` is 1 where it shows the same item.
    An item logged without a propensity was shown with certainty.
    """
    sides = [_placed(answers, arm).rename({"item_id": item}) for arm, item in
             (("champion", "item_id"), ("shadow", "challenger_item"))]  # fmt: skip
    pairs = sides[0].join(sides[1].select("request_id", "position", "challenger_item"), on=["request_id", "position"],
                          how="left")  # fmt: skip
    ranked = answers.filter((pl.col("arm") == "shadow") & ~pl.col("failed"))["request_id"]
    return pairs.filter(pl.col("request_id").is_in(ranked.to_list())).select(
        "request_id", "user_id", "position", "item_id", "challenger_item",
        propensity=pl.col("propensity").fill_null(1.0),
        reward=pl.col("item_id").is_in(pl.col("clicks")).cast(pl.Float64),
        target=(pl.col("item_id") == pl.col("challenger_item")).fill_null(False).cast(pl.Float64),
    )  # fmt: skip


def _placed(answers: pl.DataFrame, arm: str) -> pl.DataFrame:
    rows = [
        (row["request_id"], row["user_id"], position, item, propensity, row["clicks"])
        for row in answers.filter((pl.col("arm") == arm) & ~pl.col("failed")).iter_rows(named=True)
        for position, (item, propensity) in enumerate(json.loads(row["items"]))
    ]
    schema: dict[str, Any] = {"request_id": pl.String, "user_id": pl.String, "position": pl.Int64, "item_id": pl.String,
              "propensity": pl.Float64, "clicks": pl.List(pl.String)}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _arm(name: str, answers: pl.DataFrame, told: pl.DataFrame, draws_D: Floats | None, tail: float) -> Arm:
    own, known = answers.filter(pl.col("arm") == name), told.filter(pl.col("arm") == name)
    clicked = known.filter(pl.col("clicks").list.len() > 0)
    elapsed = own.filter(~pl.col("failed"))["elapsed_us"].to_numpy() / 1000
    low, high = (None, None) if draws_D is None else map(float, np.percentile(draws_D, [tail, 100 - tail]))
    failed = int(own["failed"].sum())
    return Arm(
        name=name,
        requests=len(own),
        users=own["user_id"].n_unique(),
        failed=failed,
        told=len(known),
        clicked=len(clicked),
        click_rate=len(clicked) / len(known) if len(known) else None,
        click_rate_low=low,
        click_rate_high=high,
        error_rate=failed / len(own) if len(own) else None,
        p50_ms=float(np.percentile(elapsed, 50)) if len(elapsed) else None,
        p99_ms=float(np.percentile(elapsed, 99)) if len(elapsed) else None,
    )


def _draws(told: pl.DataFrame, resamples: int, rng: np.random.Generator) -> Floats | None:
    """Click rates [D] of resampled users, None with fewer than two."""
    by_user = told.group_by("user_id", maintain_order=True).agg(
        clicked=(pl.col("clicks").list.len() > 0).sum(), asked=pl.len()
    )
    users = len(by_user)
    if users < 2:
        return None
    count_DU = rng.multinomial(users, np.full(users, 1 / users), size=resamples)
    return np.asarray((count_DU @ by_user["clicked"].to_numpy()) / (count_DU @ by_user["asked"].to_numpy()), np.float64)


def _agreement(answers: pl.DataFrame) -> float | None:
    pairs = placements(answers)
    if pairs.is_empty():
        return None
    sets = pairs.group_by("request_id").agg("item_id", "challenger_item")
    shares = [len(set(a) & set(b)) / len(a) for a, b in sets.select("item_id", "challenger_item").iter_rows()]
    return float(np.mean(shares))


def _verdict(rollout: Rollout, arms: tuple[Arm, ...], high: float | None, settings: RolloutSettings) -> str | None:
    champion, challenger = arms
    if challenger.requests >= settings.min_requests and challenger.error_rate is not None:
        limit = (champion.error_rate or 0.0) + settings.max_error_rise
        if challenger.error_rate > limit:
            return f"{challenger.error_rate:.2%} of its answers failed, at most {limit:.2%} are tolerated"
    if rollout.mode != "canary" or high is None or min(arm.told for arm in arms) < settings.min_requests:
        return None
    if high < 0:
        return (
            f"its click rate of {challenger.click_rate:.2%} is below the champion's {champion.click_rate:.2%}; the "
            f"difference is at most {high:.2%} at {settings.confidence:.0%} confidence"
        )
    return None
