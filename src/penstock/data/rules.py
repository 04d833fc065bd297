"""What a snapshot must be like: one list of rules, read by Great Expectations and by polars.

Each row rule carries both of its forms: an expectation over a column of `checked_table` (the record and the Data
Docs) and a polars mask over the events (quarantine, 10× faster). `expectations` compares their counts on every run.
Columns that exist for the expectation alone are there because Great Expectations on pandas cannot tell NaN from null,
and would print the whole catalogue as the set of allowed items.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from penstock.data.admission import IDS, MAX_ID_CHARS
from penstock.records import EVENT_REQUIRED, SnapshotManifest
from penstock.settings import Settings

MEASURED = ("user_id", "item_id", "request_id", "query")
"""Texts of which expectations see the length alone."""
CHARS = "_chars"
ROW = "row"
"""Column of `checked_table` that tells rows apart where their ids do not."""


@dataclass(frozen=True)
class RowRule:
    """One condition on each row.

    `expectation` and `arguments`: its Great Expectations form. `broken`: its polars mask, null or False where the row
    is fine. `shown`: what a broken row holds, and `expected` what it should. `marks`: a broken row is only counted.
    """

    name: str
    expectation: str
    arguments: dict[str, Any]
    broken: pl.Expr
    shown: pl.Expr
    expected: str
    marks: bool = field(default=False)

    @property
    def reason(self) -> pl.Expr:
        """What a broken row holds, and what it should."""
        return pl.format("{}: found {}, expected {}", pl.lit(self.name), self.shown, pl.lit(self.expected))


def row_rules(manifest: SnapshotManifest, known_items: Collection[str], settings: Settings) -> list[RowRule]:
    """Every row rule of one snapshot, in the order in which reasons are listed."""
    texts = [(name, MAX_ID_CHARS) for name in (*IDS, "request_id")] + [("query", settings.data.max_text_chars)]
    return [
        *(_given(name) for name in EVENT_REQUIRED),
        _unique(),
        _known_kind(list(settings.data.gains)),
        _known_item(known_items),
        *(_finite(name) for name in ("value", "propensity")),
        *_value_rules(settings),
        _position(),
        _propensity(),
        *_time_rules(manifest, settings),
        *(_length(name, limit) for name, limit in texts),
    ]


def checked_table(events: pl.DataFrame, known_items: Collection[str]) -> pl.DataFrame:
    """What expectations need of the events, with a row number.

    Numbers are floats: for other types Great Expectations on pandas compares row by row. Of texts it gets the lengths:
    half the memory, and no user's id or words stand in Data Docs.
    """
    is_rating, value, items = pl.col("kind") == "rating", pl.col("value"), pl.Series(list(known_items), dtype=pl.String)
    return (
        events.with_row_index(ROW)
        .with_columns(
            pl.col("position").cast(pl.Float64),
            *(
                pl.col(name).str.len_chars().cast(pl.Float64).alias(f"{name}{CHARS}")
                for name in ("event_id", *MEASURED)
            ),
            item_is=_named(pl.col("item_id").is_in(items.implode()), "known", "unknown"),
            value_is=_named(value.is_finite(), "finite", "not finite"),
            propensity_is=_named(pl.col("propensity").is_finite(), "finite", "not finite"),
            finite_value=pl.when(value.is_finite()).then(value),
            finite_propensity=pl.when(pl.col("propensity").is_finite()).then("propensity"),
            rating_is=pl.when(is_rating).then(_named(value.is_not_null(), "given", "missing")),
            rating=pl.when(is_rating & value.is_finite()).then(value),
            minutes_ahead=(pl.col("at") - pl.col("received_at")).dt.total_microseconds() / 60e6,
            clicked=(pl.col("kind") == "click").fill_null(False).cast(pl.Int64),
        )
        .drop("value", "propensity", *MEASURED)
    )


def broken_rows(events: pl.DataFrame, rules: list[RowRule]) -> pl.DataFrame:
    """One column for each rule, by its name: True where the row breaks it."""
    return events.select(rule.broken.fill_null(False).alias(rule.name) for rule in rules)


def refused_rows(broken: pl.DataFrame, rules: list[RowRule]) -> pl.Series:
    """True where a row breaks a rule that does not only mark."""
    return broken.select(pl.any_horizontal(rule.name for rule in rules if not rule.marks)).to_series()


def reasons_of(events: pl.DataFrame, rules: list[RowRule], broken: pl.DataFrame | None = None) -> pl.Series:
    """For each row, the list of its reasons: empty where it is good.

    Args:
        broken: `broken_rows` of these events, where they are known. Writing reasons costs twenty times what finding
            broken rows does, so pass the refused rows alone.
    """
    broken = broken_rows(events, rules) if broken is None else broken
    texts = [pl.when(broken[rule.name]).then(rule.reason).alias(rule.name) for rule in rules if not rule.marks]
    frame = events.select(texts)
    return frame.select(pl.concat_list(pl.all()).list.drop_nulls().alias("reasons")).to_series()


def broken_counts(broken: pl.DataFrame) -> dict[str, int]:
    """How many rows break each rule, by the rule's name."""
    return {name: int(count) for name, count in broken.sum().row(0, named=True).items()}


def late(manifest: SnapshotManifest) -> pl.Expr:
    """True where an event is older than the snapshot's window."""
    return pl.col("at") < pl.lit(datetime.fromisoformat(manifest.window_start))


def _named(condition: pl.Expr, yes: str, no: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(yes)).when(~condition).then(pl.lit(no))


def _given(name: str) -> RowRule:
    arguments = {"column": f"{name}{CHARS}" if name in MEASURED else name}
    broken = pl.col(name).is_null()
    return RowRule(
        f"{name} given", "ExpectColumnValuesToNotBeNull", arguments, broken, pl.lit("nothing"), "a value in every row"
    )


def _unique() -> RowRule:
    name = pl.col("event_id")
    broken = name.map_batches(_repeated, return_dtype=pl.Boolean) & name.is_not_null()
    return RowRule(
        "event_id once", "ExpectColumnValuesToBeUnique", {"column": "event_id"}, broken, name, "each id once"
    )


def _repeated(ids: pl.Series) -> pl.Series:
    """`is_duplicated`, a third of its time where few are: only ids whose hashes meet are compared themselves."""
    met = ids.hash().is_duplicated()
    rows = met.arg_true()
    return met.scatter(rows, ids.gather(rows).is_duplicated()) if len(rows) else met


def _known_kind(kinds: list[str]) -> RowRule:
    broken = ~pl.col("kind").is_in(kinds)
    arguments = {"column": "kind", "value_set": kinds}
    expected = f"one of {', '.join(kinds)} (data.gains)"
    return RowRule("kind known", "ExpectColumnValuesToBeInSet", arguments, broken, pl.col("kind"), expected)


def _known_item(known_items: Collection[str]) -> RowRule:
    items = pl.Series(list(known_items), dtype=pl.String)
    broken = ~pl.col("item_id").is_in(items.implode())
    arguments = {"column": "item_is", "value_set": ["known"]}
    expected = f"an item of the catalogue ({len(items)} items)"
    return RowRule("item known", "ExpectColumnValuesToBeInSet", arguments, broken, pl.col("item_id"), expected)


def _finite(name: str) -> RowRule:
    arguments = {"column": f"{name}_is", "value_set": ["finite"]}
    shown = pl.col(name).cast(pl.String)
    return RowRule(
        f"{name} finite",
        "ExpectColumnValuesToBeInSet",
        arguments,
        ~pl.col(name).is_finite(),
        shown,
        "a finite number or nothing",
    )


def _value_rules(settings: Settings) -> list[RowRule]:
    limit, low, high = (getattr(settings.validation, name) for name in ("max_abs_value", "rating_min", "rating_max"))
    value, is_rating = pl.col("value"), pl.col("kind") == "rating"
    shown, finite = value.cast(pl.String), value.is_finite()
    between = "ExpectColumnValuesToBeBetween"
    return [
        RowRule(
            "value in range",
            between,
            {"column": "finite_value", "min_value": -limit, "max_value": limit},
            finite & (value.abs() > limit),
            shown,
            f"between {-limit:g} and {limit:g} (validation.max_abs_value)",
        ),
        RowRule(
            "rating given",
            "ExpectColumnValuesToBeInSet",
            {"column": "rating_is", "value_set": ["given"]},
            is_rating & value.is_null(),
            pl.lit("nothing"),
            "a value with each rating",
        ),
        RowRule(
            "rating in range",
            between,
            {"column": "rating", "min_value": low, "max_value": high},
            is_rating & finite & ~value.is_between(low, high),
            shown,
            f"between {low:g} and {high:g} (validation.rating_min, rating_max)",
        ),
    ]


def _position() -> RowRule:
    arguments = {"column": "position", "min_value": 0}
    broken = pl.col("position") < 0
    shown = pl.col("position").cast(pl.String)
    return RowRule("position in range", "ExpectColumnValuesToBeBetween", arguments, broken, shown, "0 or more")


def _propensity() -> RowRule:
    chance = pl.col("propensity")
    arguments = {"column": "finite_propensity", "min_value": 0.0, "strict_min": True, "max_value": 1.0}
    broken = chance.is_finite() & ((chance <= 0) | (chance > 1))
    return RowRule(
        "propensity in range",
        "ExpectColumnValuesToBeBetween",
        arguments,
        broken,
        chance.cast(pl.String),
        "above 0, at most 1",
    )


def _time_rules(manifest: SnapshotManifest, settings: Settings) -> list[RowRule]:
    start, end = (datetime.fromisoformat(text) for text in (manifest.window_start, manifest.watermark))
    skew, oldest = settings.data.clock_skew_minutes, start - timedelta(days=settings.data.max_lateness_days)
    at, between = pl.col("at"), "ExpectColumnValuesToBeBetween"
    shown = at.dt.to_string("iso:strict")
    return [
        RowRule(
            "at before the watermark",
            between,
            {"column": "at", "max_value": end, "strict_max": True},
            at >= pl.lit(end),
            shown,
            f"before {end.isoformat()}",
        ),
        RowRule(
            "at not ahead of receipt",
            between,
            {"column": "minutes_ahead", "max_value": skew},
            at - pl.col("received_at") > timedelta(minutes=skew),
            shown,
            f"at most {skew:g} min after received_at (data.clock_skew_minutes)",
        ),
        RowRule(
            "at not long before the window",
            between,
            {"column": "at", "min_value": oldest},
            at < pl.lit(oldest),
            shown,
            f"{oldest.isoformat()} or later (data.max_lateness_days before the window)",
        ),
        RowRule(
            "at within the window",
            between,
            {"column": "at", "min_value": start},
            late(manifest),
            shown,
            f"{start.isoformat()} or later; a late event is taken, and counted",
            marks=True,
        ),
    ]


def _length(name: str, limit: int) -> RowRule:
    chars = pl.col(name).str.len_chars()
    arguments = {"column": f"{name}{CHARS}", "max_value": limit}
    expected = f"at most {limit} characters"
    shown = pl.format("{} characters", chars)
    return RowRule(f"{name} length", "ExpectColumnValuesToBeBetween", arguments, chars > limit, shown, expected)
