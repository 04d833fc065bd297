"""What an import kept and what it did not, by reason: read == kept + rejected, always."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock.errors import DataError, EmptyWindow

TIMES_READ = (
    "times are read as 2026-01-05T12:00:00Z, 2026-01-05 12:00 (UTC) or 2026-01-05, or as seconds, milliseconds or "
    "microseconds since 1970; write them so"
)


@dataclass(frozen=True)
class Reconciliation:
    """Rows of the source's log. `rejected`: rows by reason; a reason that never occurred is not listed.

    Raises:
        DataError: the rows do not add up, which is a fault of the importer.
    """

    read: int
    kept: int
    rejected: dict[str, int]

    def __post_init__(self) -> None:
        if self.read != self.kept + sum(self.rejected.values()):
            raise DataError(
                f"the import does not add up: {self.read} rows read, {self.kept} kept, rejected {self.rejected}; "
                "report this with the file's first lines"
            )


def sift(rows: pl.DataFrame, rules: dict[str, pl.Expr]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Reject rows by the first rule that holds for them; each rule sees only what earlier ones left.

    Args:
        rows: any frame.
        rules: reason → condition of rejection; null counts as "does not hold".

    Returns:
        The rows kept, and how many each rule rejected.

    Raises:
        EmptyWindow: every row was rejected.
    """
    read = len(rows)
    rejected: dict[str, int] = {}
    for reason, condition in rules.items():
        kept = rows.filter(~condition.fill_null(False))
        if len(kept) < len(rows):
            rejected[reason] = len(rows) - len(kept)
        rows = kept
    if rejected and rows.is_empty():
        reasons = ", ".join(f"{reason}: {count}" for reason, count in rejected.items())
        raise EmptyWindow(f"none of {read} rows could be kept ({reasons}); {advice(rejected) or 'correct the file'}")
    return rows, rejected


def advice(rejected: Mapping[str, int]) -> str | None:
    """What to do about rows that were rejected, where their reasons alone do not say it."""
    unread = any(reason.endswith(("time cannot be read", "at cannot be read")) for reason in rejected)
    return TIMES_READ if unread else None
