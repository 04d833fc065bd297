"""Parquet tables with declared columns: read strictly, conformed without loss, written whole or not at all."""

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from penstock.errors import SchemaError
from penstock.records import AT


def check_text(frame: pl.DataFrame, columns: tuple[str, ...], max_chars: int, where: str) -> None:
    """Refuse text longer than `max_chars` characters or holding NUL characters.

    Raises:
        SchemaError: naming the first row, its length and the limit.
    """
    for name in columns:
        numbered = frame.select(pl.col(name).alias("text")).with_row_index("row")
        long = numbered.filter(pl.col("text").str.len_chars() > max_chars)
        if len(long):
            raise SchemaError(
                f"{where}: column {name}, row {long['row'][0]} holds {len(long['text'][0])} characters, at most "
                f"{max_chars} are allowed ({len(long)} such rows); shorten the text or raise data.max_text_chars"
            )
        holed = numbered.filter(pl.col("text").str.contains("\0", literal=True))
        if len(holed):
            raise SchemaError(
                f"{where}: column {name}, row {holed['row'][0]} holds a NUL character, expected plain text "
                f"({len(holed)} such rows); clean the source and import again"
            )


def read_table(path: Path, columns: Mapping[str, pl.DataType], required: tuple[str, ...]) -> pl.DataFrame:
    """Read a Parquet file as exactly `columns`, in their order; absent optional columns become nulls.

    Raises:
        SchemaError: no such file, not whole, not Parquet, a required column missing, a type that cannot be taken
            without loss, a null in a required column.
    """
    try:
        # An open handle, not a name: polars would read a name with * in it as a pattern.
        with path.open("rb") as file:
            frame = pl.read_parquet(file)
    except OSError as error:
        raise SchemaError(f"{path} cannot be read ({error.strerror}); expected a Parquet file there") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise SchemaError(
            f"{path} ({path.stat().st_size} bytes) is no whole Parquet file: {error}; it was cut short or is another "
            "format; write or fetch it again"
        ) from error
    return conform(frame, columns, required, str(path))


def conform(
    frame: pl.DataFrame, columns: Mapping[str, pl.DataType], required: tuple[str, ...], where: str
) -> pl.DataFrame:
    """`frame` with exactly `columns`; widening and unit changes are made, anything lossy is refused.

    Raises:
        SchemaError: naming the column, what was found and what was expected.
    """
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{where}: column {', '.join(missing)} is missing, found {', '.join(frame.columns) or 'no columns'}; "
            f"expected at least {', '.join(required)}; rename or map the columns"
        )
    taken = [
        _conform_column(frame[name], dtype, where)
        if name in frame.columns
        else pl.Series(name, [None], dtype=dtype).new_from_index(0, len(frame))
        for name, dtype in columns.items()
    ]
    table = pl.DataFrame(taken)
    for name in required:
        if table[name].null_count():
            row = table[name].is_null().arg_max()
            raise SchemaError(
                f"{where}: column {name} is null in {table[name].null_count()} rows, first row {row}; every row needs "
                "it; fill it or leave the rows out"
            )
    return table


def _conform_column(column: pl.Series, dtype: pl.DataType, where: str) -> pl.Series:
    found = column.dtype
    if found == dtype:
        return column
    same_family = (
        found == pl.Null
        or (dtype == pl.String and isinstance(found, pl.Categorical | pl.Enum))
        or (dtype == pl.Float64 and found.is_numeric())
        or (dtype == pl.Int32 and found.is_integer())
        or (dtype == AT and isinstance(found, pl.Datetime) and found.time_zone is not None)
        or (isinstance(dtype, pl.List) and isinstance(found, pl.List | pl.Array) and found.inner.is_numeric())
    )
    if same_family:
        try:
            if isinstance(found, pl.Datetime):
                return column.dt.convert_time_zone("UTC").cast(dtype)
            return column.cast(dtype, strict=True)
        except pl.exceptions.PolarsError as error:
            raise SchemaError(f"{where}: column {column.name} ({found}) does not fit {dtype}: {error}") from error
    hint = "; give the time a zone" if isinstance(found, pl.Datetime) else ""
    raise SchemaError(f"{where}: column {column.name} is {found}, expected {dtype}{hint}; convert it and try again")


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file that appears whole or not at all; equal frames give equal bytes."""
    replace_file(path, lambda part: frame.write_parquet(part, compression="zstd", compression_level=9))


def table_bytes(frame: pl.DataFrame) -> bytes:
    """The bytes that `write_table` writes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=9)
    return buffer.getvalue()


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, then rename it over `path`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
