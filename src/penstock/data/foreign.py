"""Parquet files that somebody else wrote, read by Arrow, which answers damage with an error.

polars' own reader takes a sixth of the time and ends the whole process on some damaged files, because it asks for as
much memory as a damaged length says. It is left to files that penstock wrote, snapshots' after their hash was compared.
"""

import io

import polars as pl

from penstock.errors import SchemaError


def read_foreign(data: bytes, where: str) -> pl.DataFrame:
    """The table in the bytes of a Parquet file.

    Args:
        where: names the file in the error.

    Raises:
        SchemaError: it is not whole or is another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        table.validate(full=True)
        for field in table.schema:
            field.name, str(field.type)  # most of what is no UTF-8 is found here; polars panics at it
        frame = pl.from_arrow(table)
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise SchemaError(
            f"{where} ({len(data)} bytes) is no whole Parquet file: {said}; it was cut short, altered or is another "
            "format; write or fetch it again"
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return frame
