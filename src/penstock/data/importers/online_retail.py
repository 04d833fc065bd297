"""UCI Online Retail (https://doi.org/10.24432/C5BW33): purchases, one event per invoice and item.

Kept: rows with a customer, bought (no cancellation, no adjustment), of a product. A product's code begins with five
digits; POST, M, C2, DOT, BANK CHARGES, PADS and their like do not. Local times carry no zone and are taken as UTC.
Lines that repeat an invoice's item are merged into its first: the amount is added up, the row counts as rejected.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.importers.assembly import assemble
from penstock.data.importers.files import find_file, read_csv
from penstock.data.importers.reconciliation import Reconciliation, sift

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
NAMES = ("online-retail.csv.gz", "online-retail.csv", "OnlineRetail.csv", "Online Retail.csv")


def import_online_retail(source: Path, mapping: Mapping[str, str]) -> tuple[Dataset, Reconciliation]:
    """Read the CSV, plain or gzip, or the folder that holds it.

    Raises:
        SchemaError: no such file, or columns missing.
        EmptyWindow: no purchase could be kept.
    """
    rows = read_csv(find_file(source, NAMES, "Online Retail table"), COLUMNS).with_columns(
        pl.col("InvoiceNo", "StockCode", "Description").str.strip_chars(),
        quantity=pl.col("Quantity").cast(pl.Float64, strict=False),
        price=pl.col("UnitPrice").cast(pl.Float64, strict=False),
        at=_time(pl.col("InvoiceDate")),
    )
    kept, rejected = sift(
        rows,
        {
            "no customer": pl.col("CustomerID").is_null() | (pl.col("CustomerID").str.strip_chars() == ""),
            "no invoice or stock code": pl.col("InvoiceNo").is_null() | pl.col("StockCode").is_null(),
            "cancellation": pl.col("InvoiceNo").str.starts_with("C"),
            "quantity is not a number": ~pl.col("quantity").is_finite().fill_null(False),
            "quantity not above zero": pl.col("quantity") <= 0,
            "price is not a number": ~pl.col("price").is_finite().fill_null(False),
            "time is not YYYY-MM-DD HH:MM:SS": pl.col("at").is_null(),
            "code is not a product": ~pl.col("StockCode").str.contains(r"^\d{5}"),
        },
    )
    amount = (pl.col("quantity") * pl.col("price")).sum().over("InvoiceNo", "StockCode")
    lines, merged = sift(
        kept.with_columns(value=amount),
        {"merged into an earlier line of its invoice": ~pl.struct("InvoiceNo", "StockCode").is_first_distinct()},
    )
    events = lines.select(
        "at",
        "value",
        user_id=pl.col("CustomerID").str.strip_chars().str.replace(r"\.0$", ""),
        item_id="StockCode",
        event_id=pl.lit("or-") + pl.col("_row").cast(pl.String).str.zfill(8),
        kind=pl.lit("purchase"),
    )
    dataset = assemble(events, _catalogue(kept), "online-retail", "UCI Online Retail", repeats=True, logged="positives")
    return dataset, Reconciliation(len(rows), len(lines), rejected | merged)


def _catalogue(rows: pl.DataFrame) -> pl.DataFrame:
    counted = rows.drop_nulls("Description").group_by("StockCode", "Description").len()
    return (
        counted.sort("StockCode", "len", "Description", descending=[False, True, False])
        .unique("StockCode", keep="first", maintain_order=True)
        .select(item_id="StockCode", title="Description")
    )


def _time(text: pl.Expr) -> pl.Expr:
    return text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us", time_zone="UTC")
