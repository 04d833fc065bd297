"""Times in whatever form a column has them, as UTC microseconds."""

import polars as pl

from penstock.records import AT

FORMS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
ZONED = "%Y-%m-%dT%H:%M:%S%.f%z"


def read_times(column: pl.Series) -> pl.Series:
    """Read datetimes, dates, ISO 8601 text, or numbers since 1970.

    Without a zone it is UTC. A number is in seconds below 1e11, milliseconds below 1e14, else microseconds.

    Returns:
        records.AT; null where it cannot be read.
    """
    if isinstance(column.dtype, pl.Datetime):
        zoned = column.dt.replace_time_zone("UTC") if column.dtype.time_zone is None else column
        return zoned.dt.convert_time_zone("UTC").cast(AT)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    text = column.cast(pl.String).str.strip_chars()
    number = _since_1970(pl.col("t").cast(pl.Float64, strict=False))
    iso = pl.col("t").str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T").str.replace(r"(?i) ?(?:z|utc)$", "+00:00")
    naive = [iso.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in FORMS]
    zoned_iso = iso.str.replace(r"([+-]\d{2}):?(\d{2})$", "${1}${2}")
    zoned_time = zoned_iso.str.to_datetime(ZONED, strict=False, time_unit="us")
    return text.to_frame("t").select(pl.coalesce(zoned_time, *naive, number)).to_series()


def _since_1970(number: pl.Expr) -> pl.Expr:
    scale = pl.when(number.abs() < 1e11).then(1e6).when(number.abs() < 1e14).then(1e3).otherwise(1.0)
    micros = (number * scale).round()
    # Beyond the year 9999, or not finite: not a time.
    return pl.when(micros.abs() < 2.5e17).then(micros).cast(pl.Int64, strict=False).cast(AT)
