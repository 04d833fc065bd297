"""What a snapshot as a whole must be like, against the recent past: its volume and its click rate.

Both are judged so that ordinary life does not refuse a snapshot: a backlog after an outage has many rows but the usual
rows per minute, a quiet night has few per minute but the usual rows; and a click rate moves by chance, so it must lie
beyond its bound by three standard errors of a count.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from penstock.records import SnapshotManifest
from penstock.settings import ValidationSettings

SIGMAS = 3.0


@dataclass(frozen=True)
class WindowRule:
    """One bound on the whole snapshot, in both forms; `observed` must lie in [low, high].

    `column`: where `checked_table` holds `observed` in every row, for an expectation that no column of events fits.
    """

    name: str
    expectation: str
    arguments: dict[str, Any]
    observed: float
    low: float
    high: float
    explained: str
    column: str | None = None

    @property
    def broken(self) -> bool:
        """True when the snapshot must be refused."""
        return not self.low <= self.observed <= self.high

    @property
    def reason(self) -> str:
        """What was found, and what was expected."""
        expected = (
            f"{_shown(self.low)} to {_shown(self.high)}" if math.isfinite(self.low) else f"{_shown(self.high)} or less"
        )
        return f"{self.name}: found {_shown(self.observed)}, expected {expected} ({self.explained})"


def window_rules(
    events: pl.DataFrame, manifest: SnapshotManifest, recent: list[SnapshotManifest], settings: ValidationSettings
) -> tuple[list[WindowRule], list[str]]:
    """The rules that can be judged, and a note for each that cannot."""
    recent = recent[-settings.history_snapshots :]
    if len(recent) < settings.min_history:
        return [], [
            f"volume and click rate not judged: {len(recent)} recent snapshots, at least {settings.min_history} are "
            "needed (validation.min_history)"
        ]
    rules = [_volume(len(events), manifest, recent, settings.volume_factor)]
    impressions = sum(past.counts_by_kind.get("impression", 0) for past in recent)
    clicks = sum(past.counts_by_kind.get("click", 0) for past in recent)
    if not impressions or not clicks:
        return rules, [f"click rate not judged: {clicks} clicks on {impressions} impressions in recent snapshots"]
    return [*rules, _click_rate(events, clicks / impressions, settings.click_rate_factor)], []


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4g}"


def minutes_of(manifest: SnapshotManifest) -> float:
    """Length of a window, at least one second."""
    start, end = (datetime.fromisoformat(text) for text in (manifest.window_start, manifest.window_end))
    return max((end - start).total_seconds(), 1.0) / 60


def _volume(rows: int, manifest: SnapshotManifest, recent: list[SnapshotManifest], factor: float) -> WindowRule:
    by_window = sum(past.rows for past in recent) / len(recent)
    by_minute = sum(past.rows / minutes_of(past) for past in recent) / len(recent) * minutes_of(manifest)
    low, high = math.ceil(min(by_window, by_minute) / factor), math.floor(max(by_window, by_minute) * factor)
    return WindowRule(
        "volume",
        "ExpectTableRowCountToBeBetween",
        {"min_value": low, "max_value": high},
        rows,
        low,
        high,
        f"recent snapshots hold {by_window:.0f} rows, or {by_minute:.0f} for this window's length; "
        f"validation.volume_factor is {factor:g}",
    )


def _click_rate(events: pl.DataFrame, rate: float, factor: float) -> WindowRule:
    counts = dict(events.group_by("kind").len().iter_rows())
    impressions, clicks = counts.get("impression", 0), counts.get("click", 0)
    least, most = rate * impressions / factor, max(rate * impressions, 1.0) * factor
    low = max(0, math.ceil(least - SIGMAS * math.sqrt(least)))
    high = math.floor(most + SIGMAS * math.sqrt(most))
    return WindowRule(
        "clicks",
        "ExpectColumnSumToBeBetween",
        {"column": "clicked", "min_value": low, "max_value": high},
        clicks,
        low,
        high,
        f"{impressions} impressions, {rate:.4f} clicks per impression in recent snapshots; "
        f"validation.click_rate_factor is {factor:g}",
    )
