"""Events become requests: who asked, what was shown, what followed. Vectorised; a million events take seconds."""

import polars as pl

from penstock.errors import DataError
from penstock.records import REQUEST_COLUMNS

_NO_ITEMS = pl.lit([], dtype=pl.List(pl.String))
_NO_POSITIONS = pl.lit([], dtype=pl.List(pl.Int32))


def group_requests(events: pl.DataFrame, gains: dict[str, float], positive_rating_min: float) -> pl.DataFrame:
    """Group events into requests.

    - Impressions with a request_id: one request each, `shown` by position. Relevant are the shown items that an
      event of a kind with positive gain names under the same request_id, with their largest gain. A request that
      nothing followed is kept, with no relevant item.
    - Positives whose request_id has no impression here (a purchase that came a window later): one request under that
      id, nothing shown.
    - Positives without a request_id: one request for each (user, time), id "user@µs", nothing shown.
    - Labels: each event its own request, its text in `query`.

    Args:
        events: records.EVENT_COLUMNS.
        gains: worth of each kind; zero: never relevant.
        positive_rating_min: a rating below this (or without a value) is worth nothing.

    Returns:
        records.REQUEST_COLUMNS, sorted by (at, request_id). `relevant` follows shown order where something was
        shown, else time order.

    Raises:
        DataError: a kind that `gains` does not list.
    """
    unknown = sorted(set(events["kind"].unique()) - set(gains))
    if unknown:
        raise DataError(
            f"events of kind {', '.join(unknown)} have no gain, expected one of {', '.join(gains)}; "
            "add the kind to data.gains or map it to one of these"
        )
    rated = pl.col("value").is_not_null() & (pl.col("value") >= positive_rating_min)
    gain = pl.col("kind").replace_strict(gains, return_dtype=pl.Float32)
    valued = events.sort("at", "event_id").with_columns(
        gain=pl.when((pl.col("kind") != "rating") | rated).then(gain).otherwise(0.0).cast(pl.Float32)
    )
    labels = valued.filter(pl.col("kind") == "label")
    shown = valued.filter((pl.col("kind") == "impression") & pl.col("request_id").is_not_null())
    positives = valued.filter((pl.col("gain") > 0) & ~pl.col("kind").is_in(["label", "impression"]))
    tagged = positives.filter(pl.col("request_id").is_not_null())
    untagged = positives.filter(pl.col("request_id").is_null()).with_columns(
        request_id=pl.format("{}@{}", "user_id", pl.col("at").dt.epoch("us"))
    )
    orphans = tagged.join(shown.select("request_id").unique(), on="request_id", how="anti")
    parts = [
        _shown_requests(shown, tagged),
        _positive_requests(orphans),
        _positive_requests(untagged),
        _label_requests(labels),
    ]
    return pl.concat(parts).sort("at", "request_id")


def _shown_requests(shown: pl.DataFrame, positives: pl.DataFrame) -> pl.DataFrame:
    best = positives.group_by("request_id", "item_id").agg(pl.col("gain").max())
    rows = (
        shown.drop("gain")
        .sort("request_id", "position", "event_id", nulls_last=True)
        .unique(["request_id", "item_id"], keep="first", maintain_order=True)
        .join(best, on=["request_id", "item_id"], how="left", maintain_order="left")
    )
    followed = pl.col("gain").is_not_null()
    return (
        rows.group_by("request_id", maintain_order=True)
        .agg(
            pl.col("user_id").first(),
            pl.col("at").min(),
            pl.col("query").drop_nulls().first(),
            shown=pl.col("item_id"),
            relevant=pl.col("item_id").filter(followed),
            gain=pl.col("gain").filter(followed),
            position=pl.col("position"),
        )
        .select(_columns())
    )


def _positive_requests(positives: pl.DataFrame) -> pl.DataFrame:
    best = positives.group_by("request_id", "item_id", maintain_order=True).agg(
        pl.col("user_id").first(), pl.col("at").min(), pl.col("query").drop_nulls().first(), pl.col("gain").max()
    )
    return (
        best.group_by("request_id", maintain_order=True)
        .agg(
            pl.col("user_id").first(),
            pl.col("at").min(),
            pl.col("query").drop_nulls().first(),
            relevant=pl.col("item_id"),
            gain=pl.col("gain"),
        )
        .with_columns(shown=_NO_ITEMS, position=_NO_POSITIONS)
        .select(_columns())
    )


def _label_requests(labels: pl.DataFrame) -> pl.DataFrame:
    return labels.select(
        request_id=pl.coalesce("request_id", "event_id"),
        user_id="user_id",
        at="at",
        query="query",
        shown=_NO_ITEMS,
        relevant=pl.concat_list("item_id"),
        gain=pl.concat_list("gain"),
        position=_NO_POSITIONS,
    ).select(_columns())


def _columns() -> list[pl.Expr]:
    return [pl.col(name).cast(dtype) for name, dtype in REQUEST_COLUMNS.items()]
