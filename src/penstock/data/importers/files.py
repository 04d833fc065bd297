"""Source files as frames of strings; what cannot be read is named with its file and place."""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path

import polars as pl

from penstock.errors import SchemaError


def read_rows(path: Path, separator: str, names: tuple[str, ...], encoding: str = "utf-8") -> pl.DataFrame:
    """A file without header, split literally: no quoting, any separator.

    Returns:
        `names` as strings, empty as null, plus `_row` (0-based line) and `fields` (how many the line really had).

    Raises:
        SchemaError: the file cannot be read or is not in `encoding`.
    """
    lines = read_text(path, encoding).replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    frame = pl.DataFrame({"line": lines}, schema={"line": pl.String}).with_row_index("_row")
    frame = frame.with_columns(pl.col("line").str.split(separator).alias("parts"))
    taken = [
        _none_if_empty(pl.col("parts").list.get(place, null_on_oob=True)).alias(n) for place, n in enumerate(names)
    ]
    return frame.select("_row", *taken, fields=pl.col("parts").list.len())


def read_csv(path: Path, columns: tuple[str, ...] = (), separator: str | None = None) -> pl.DataFrame:
    """A file with a header and double-quote quoting, plain or gzip, as strings plus `_row`, its 0-based row.

    Args:
        path: the file.
        columns: what the header must at least hold.
        separator: None looks at the header: a tab if there is one, else a comma.

    Raises:
        SchemaError: the file cannot be read, is not UTF-8, has a ragged line, or lacks a column.
    """
    data = read_bytes(path)
    header = data.partition(b"\n")[0]
    separator = separator or ("\t" if b"\t" in header else ",")
    try:
        frame = pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        found = _broken_row(decode(data, path, "utf-8"), separator) or str(error).partition("\n")[0]
        raise SchemaError(f"{path} is no table of comma- or tab-separated values: {found}; correct the file") from error
    need_columns(frame, columns, path)
    return frame.with_row_index("_row")


def read_json_lines(path: Path) -> pl.DataFrame:
    """A file with a JSON object in each line, plain or gzip, plus `_row`, the 0-based object.

    Raises:
        SchemaError: the file cannot be read, or a line is no JSON object.
    """
    data = read_bytes(path)
    try:
        return pl.read_ndjson(data, infer_schema_length=None).with_row_index("_row")
    except pl.exceptions.PolarsError as error:
        found = _broken_line(data) or str(error).partition("\n")[0]
        raise SchemaError(f"{path} cannot be read as JSON lines: {found}; correct the file") from error


def _broken_row(text: str, separator: str) -> str | None:
    """What is wrong with the first row that has more fields than the header, or quotes that do not end."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    width = begins = 0
    try:
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                return f"line {rows.line_num} holds {len(row)} fields, the header {width}"
            begins = rows.line_num
    except csv.Error as error:
        return f"the row that begins in line {begins + 1} cannot be read ({error}), see its quotes"
    return None


def _broken_line(data: bytes) -> str | None:
    """What is wrong with the first line that is no JSON object."""
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            found = json.loads(line) if line.strip() else {}
        except ValueError as error:
            return f"line {number}: {error}"
        if not isinstance(found, dict):
            return f"line {number} holds JSON {type(found).__name__}, expected an object"
    return None


def need_columns(frame: pl.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    """Raise SchemaError unless `frame` has every one of `columns`."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{path}: column {', '.join(missing)} is missing, found {', '.join(frame.columns)}; check that this is the "
            "right file, or map the columns with --map column=field"
        )


def read_text(path: Path, encoding: str) -> str:
    """A whole file as text; raises SchemaError when it cannot be read or decoded."""
    return decode(read_bytes(path), path, encoding)


def read_bytes(path: Path) -> bytes:
    """A whole file, unzipped if it is gzip.

    Raises:
        SchemaError: no such file, empty, or a gzip that is cut short.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SchemaError(f"{path} is a damaged gzip file: {error}; fetch it again") from error
    except OSError as error:
        raise SchemaError(f"{path} cannot be read ({error.strerror}); give the file's place") from error
    if not data.strip():
        raise SchemaError(f"{path} is empty, expected rows; fetch it again")
    return data


def decode(data: bytes, path: Path, encoding: str) -> str:
    """Text of `data`; raises SchemaError naming the line of the first byte that does not fit."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SchemaError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}; convert the file to {encoding}"
        ) from error


def find_file(source: Path, names: tuple[str, ...], what: str) -> Path:
    """`source` itself when it is a file, else the first of `names` in the folder.

    Raises:
        SchemaError: neither is there; lists what is.
    """
    if source.is_file():
        return source
    for name in names:
        if (source / name).is_file():
            return source / name
    found = ", ".join(sorted(path.name for path in source.iterdir())[:10]) if source.is_dir() else "no such folder"
    raise SchemaError(f"{source}: no {what} there, expected {' or '.join(names)}, found {found or 'an empty folder'}")


def _none_if_empty(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)
