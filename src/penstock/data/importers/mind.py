"""MIND: logged news impressions (https://msnews.github.io).

Each impression is one request; its items are kind "impression" with a position, the clicked ones also kind "click"
at the same time, as the log tells no other. The click history that comes with a user's first impression becomes kind
"history", microseconds before it and in its order, without request_id: its own times are unknown.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.importers.assembly import assemble
from penstock.data.importers.files import find_file, read_rows
from penstock.data.importers.reconciliation import Reconciliation, sift
from penstock.errors import SchemaError

BEHAVIOUR_FIELDS = ("impression", "user_id", "time", "history", "shown")
NEWS_FIELDS = ("item_id", "category", "subcategory", "title", "body")
NEWS_WIDTH = 8


def import_mind(source: Path, mapping: Mapping[str, str]) -> tuple[Dataset, Reconciliation]:
    """Read a folder with behaviors.tsv and news.tsv.

    Raises:
        SchemaError: a file is missing or not MIND's.
        EmptyWindow: no impression could be kept.
    """
    behaviours = read_rows(find_file(source, ("behaviors.tsv",), "MIND log"), "\t", BEHAVIOUR_FIELDS)
    kept, rejected = sift(
        behaviours.with_columns(
            at=pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False, time_unit="us", time_zone="UTC")
        ),
        {
            "not five columns": pl.col("fields") != len(BEHAVIOUR_FIELDS),
            "no impression or user id": pl.col("impression").is_null() | pl.col("user_id").is_null(),
            "time is not MM/DD/YYYY h:mm:ss AM/PM": pl.col("at").is_null(),
            "nothing shown": pl.col("shown").is_null(),
            "a shown item is not id-0 or id-1": ~pl.col("shown").str.contains(r"^\S+-[01](?: +\S+-[01])* *$"),
            "impression id seen before": ~pl.col("impression").is_first_distinct(),
        },
    )
    kept = kept.sort("at", "_row").with_columns(request_id=pl.lit("mind-") + pl.col("impression"))
    shown = _shown(kept)
    clicks = shown.filter(pl.col("clicked") == "1").with_columns(
        event_id=pl.col("event_id") + "-click", kind=pl.lit("click"), position=pl.lit(None, dtype=pl.Int64)
    )
    events = pl.concat([shown, clicks, _histories(kept)], how="diagonal")
    dataset = assemble(events, _news(source), "mind", "MIND", repeats=False, logged="impressions")
    return dataset, Reconciliation(len(behaviours), len(kept), rejected)


def _shown(rows: pl.DataFrame) -> pl.DataFrame:
    entries = rows.select("request_id", "user_id", "at", entry=pl.col("shown").str.strip_chars().str.split(" "))
    entries = entries.with_columns(entry=pl.col("entry").list.filter(pl.element() != ""))
    entries = entries.with_columns(position=pl.int_ranges(pl.col("entry").list.len())).explode("entry", "position")
    return entries.select(
        "request_id",
        "user_id",
        "at",
        "position",
        event_id=pl.format("{}-{}", "request_id", pl.col("position").cast(pl.String).str.zfill(4)),
        item_id=pl.col("entry").str.head(-2),
        clicked=pl.col("entry").str.tail(1),
        kind=pl.lit("impression"),
    )


def _histories(rows: pl.DataFrame) -> pl.DataFrame:
    first = rows.unique("user_id", keep="first", maintain_order=True).drop_nulls("history")
    clicks = first.select("user_id", "at", item_id=pl.col("history").str.extract_all(r"\S+"))
    place = pl.int_ranges(pl.col("item_id").list.len())
    clicks = clicks.with_columns(place=place, before=pl.col("item_id").list.len() - place)
    clicks = clicks.explode("item_id", "place", "before")
    return clicks.select(
        "user_id",
        "item_id",
        at=pl.col("at") - pl.col("before").cast(pl.Duration("us")),
        event_id=pl.format("mind-history-{}-{}", "user_id", pl.col("place").cast(pl.String).str.zfill(4)),
        kind=pl.lit("history"),
    )


def _news(source: Path) -> pl.DataFrame:
    path = find_file(source if source.is_dir() else source.parent, ("news.tsv",), "MIND catalogue")
    news = read_rows(path, "\t", NEWS_FIELDS)
    broken = news.filter((pl.col("fields") != NEWS_WIDTH) | pl.col("item_id").is_null())
    if len(broken):
        raise SchemaError(
            f"{path}, line {broken['_row'][0] + 1} has {broken['fields'][0]} columns, expected {NEWS_WIDTH} and a news "
            f"id ({len(broken)} such lines); quotes are literal in this file, fetch it again"
        )
    subcategory = pl.struct(pl.col("subcategory")).struct.json_encode()
    return news.unique("item_id", keep="first", maintain_order=True).select(
        "item_id",
        "title",
        "body",
        "category",
        attributes=pl.when(pl.col("subcategory").is_not_null()).then(subcategory),
    )
