"""What an import kept and what it did not, by reason: read == kept + rejected, always."""

from dataclasses import dataclass

import polars as pl

from penstock.errors import DataError


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
    """
    rejected: dict[str, int] = {}
    for reason, condition in rules.items():
        kept = rows.filter(~condition.fill_null(False))
        if len(kept) < len(rows):
            rejected[reason] = len(rows) - len(kept)
        rows = kept
    return rows, rejected
