"""Acts that look bought or made by a machine: held with their reason, not lost; a person may send them back.

An act is an event of a kind with positive gain, labels left out. Acts of one request (a request_id, or one user at one
time: a basket) count as one where their number matters. The signs, each with its limit in `suspects` of params.yaml:

- a person cannot ask so often within a minute, or so regularly: everything of that user in the window is held;
- one user weighs at most so much an hour: the requests beyond are held, in the order of time, and an act that repeats
  another of its request;
- an item gets many acts from people nobody knows yet, or from people it was not shown to, against few from others
  (a click farm): those acts are held. "Not shown" is a sign only where most acts do follow an impression.

A burst of real fame comes from known people who were shown the item, so it passes. An impression is an attacker's to
forge, so where the service kept what it answered, only what it did answer to that user counts as shown.
docs/poison.md has the figures.
"""

from collections.abc import Collection
from datetime import timedelta

import polars as pl

from penstock.settings import SuspectSettings

PREFIX = "suspect"
MINUTE = timedelta(minutes=1)


def suspect_reasons(
    events: pl.DataFrame,
    gains: dict[str, float],
    known_users: Collection[str],
    hours: float,
    settings: SuspectSettings,
    answered: pl.DataFrame | None = None,
) -> pl.Series:
    """For each event, why it is suspect; null where it is not.

    Args:
        events: records.EVENT_COLUMNS, event ids distinct.
        known_users: those of an earlier snapshot; empty: nobody is taken for a stranger, as in a first round.
        hours: length of the window.
        answered: `request_id`, `item_id` and `user_id` (null: nobody in particular) of what the service answered;
            an impression that is not among them counts for nothing. None: impressions are taken as they are.
    """
    gain = pl.col("kind").replace_strict(gains | {"label": 0.0}, default=0.0, return_dtype=pl.Float64)
    rows = events.with_row_index("row").with_columns(gain=gain).with_columns(act=pl.col("gain") > 0)
    request = pl.coalesce("request_id", pl.format("{}@{}", "user_id", pl.col("at").dt.epoch("us")))
    acts = rows.filter("act").sort("user_id", "at", "event_id").with_columns(request=request)
    machines = _machines(acts.unique(["user_id", "request"], keep="first", maintain_order=True), settings)
    over = _over_the_cap(acts, settings.max_user_gain_per_h * max(hours, 1.0))
    farmed = _farmed(_impressions(rows, answered), acts, known_users, settings)
    found = (
        rows.select("row", "user_id")
        .join(machines, on="user_id", how="left", maintain_order="left")
        .join(over, on="row", how="left", maintain_order="left")
        .join(farmed, on="row", how="left", maintain_order="left")
    )
    reason = pl.coalesce("machine", "over", "farmed")
    return found.select(pl.format("{}: {}", pl.lit(PREFIX), reason).alias("reason")).to_series()


def _machines(requests: pl.DataFrame, settings: SuspectSettings) -> pl.DataFrame:
    """`user_id` and `machine`, the reason, of users who ask faster or more regularly than people do."""
    gap_s = (pl.col("at").diff().over("user_id").dt.total_microseconds() / 1e6).alias("gap_s")
    most = pl.lit(f"{settings.max_requests_per_minute} (suspects.max_requests_per_minute)")
    busiest = requests.rolling("at", period=MINUTE, group_by="user_id").agg(pl.len().alias("count"))
    fast = (
        busiest.group_by("user_id")
        .agg(pl.col("count").max())
        .filter(pl.col("count") > settings.max_requests_per_minute)
        .select("user_id", fast=pl.format("{} requests within a minute, expected at most {}", "count", most))
    )
    spread = pl.col("gap_s").std() / pl.col("gap_s").mean()
    regular = (
        requests.with_columns(gap_s)
        .group_by("user_id")
        .agg(pl.len().alias("count"), spread.fill_nan(0.0).alias("spread"))
        .filter((pl.col("count") >= settings.regular_min_requests) & (pl.col("spread") < settings.min_gap_spread))
        .select(
            "user_id",
            regular=pl.format(
                "{} requests at gaps that vary by {}, expected {} or more",
                "count",
                pl.col("spread").round(3),
                pl.lit(f"{settings.min_gap_spread:g} (suspects.min_gap_spread)"),
            ),
        )
    )
    both = fast.join(regular, on="user_id", how="full", coalesce=True)
    return both.select("user_id", machine=pl.coalesce("fast", "regular"))


def _over_the_cap(acts: pl.DataFrame, most: float) -> pl.DataFrame:
    """`row` and `over`, the reason, of acts beyond what one user may weigh."""
    first, heaviest = (
        pl.struct("user_id", "request").is_first_distinct(),
        pl.col("gain").max().over("user_id", "request"),
    )
    again = ~pl.struct("user_id", "request", "item_id", "kind").is_first_distinct()
    acts = acts.with_columns(again=again, counted=pl.when(first).then(heaviest).otherwise(0.0))
    weight = pl.col("counted").cum_sum().over("user_id")
    text = pl.lit(f"expected at most {most:g} in this window (suspects.max_user_gain_per_h)")
    beyond = acts.with_columns(weight=weight).filter((pl.col("weight") > most) | pl.col("again"))
    heavy = pl.format("the user's requests weigh {} with this one, {}", "weight", text)
    return beyond.select(
        "row", over=pl.when("again").then(pl.lit("the same act once more in its request")).otherwise(heavy)
    )


def _impressions(rows: pl.DataFrame, answered: pl.DataFrame | None) -> pl.DataFrame:
    """`user_id`, `item_id`, `request_id` of what was shown."""
    told = rows.filter(pl.col("kind") == "impression").select("user_id", "item_id", "request_id").unique()
    if answered is None:
        return told
    said = answered.rename({"user_id": "answered_user"})
    own = pl.col("answered_user").is_null() | (pl.col("answered_user") == pl.col("user_id"))
    return told.join(said, on=["request_id", "item_id"]).filter(own).select(told.columns).unique()


def _farmed(
    impressions: pl.DataFrame, acts: pl.DataFrame, known_users: Collection[str], settings: SuspectSettings
) -> pl.DataFrame:
    """`row` and `farmed`, the reason, of acts on items that mostly strangers, or people it was not shown to, act on."""
    seen = acts.join(impressions.with_columns(shown=pl.lit(True)), on=["user_id", "item_id", "request_id"], how="left")
    seen = seen.with_columns(pl.col("shown").fill_null(False))
    people = pl.Series(list(known_users), dtype=pl.String)
    stranger = ~pl.col("user_id").is_in(people.implode()) if len(people) else pl.lit(False)
    shown, here, elsewhere = pl.col("shown"), pl.len().over("item_id"), pl.len() - pl.len().over("item_id")
    shown_elsewhere = shown.sum() - shown.sum().over("item_id")  # of the other items: an attack cannot hide itself
    logged = pl.when(elsewhere > 0).then(shown_elsewhere / elsewhere).otherwise(shown.sum().over("item_id") / here)
    doubtful = seen.with_columns(doubtful=stranger | (~shown & (logged >= settings.shown_share)))
    counts = pl.col("doubtful").sum().over("item_id"), (~pl.col("doubtful")).sum().over("item_id")
    judged = doubtful.with_columns(counts[0].alias("by_doubtful"), counts[1].alias("by_others"))
    limit = pl.max_horizontal(pl.lit(settings.farm_min_acts), pl.col("by_others") * settings.farm_factor)
    held = judged.filter(pl.col("doubtful") & (pl.col("by_doubtful") > limit))
    return held.select(
        "row",
        farmed=pl.format(
            "{} acts on {} by users unknown or not shown it, {} by others, expected at most {}",
            "by_doubtful",
            "item_id",
            "by_others",
            pl.lit(f"{settings.farm_min_acts} or {settings.farm_factor:g} times the others' (suspects)"),
        ),
    )
