"""Where a name still stands: a search through every file, whatever it is made of, and the Parquet rows that hold it.

A table is read as a table and a database by its rows: their bytes are compressed or hold deleted text. Everything else
is searched as bytes. In JSON a name counts where it stands in quotes, elsewhere where no letter or digit adjoins it, so
that "u1" is not found in "u17"; in binary files only names long enough not to turn up by chance are looked for.
"""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from penstock.errors import DataError

DATABASES = (".db", ".sqlite", ".sqlite3")
JSON = (".json", ".jsonl", ".ndjson")
TEXTS = (".html", ".csv", ".txt", ".log", ".md", ".yaml", ".yml")
MIN_BINARY_CHARS = 8
PARQUET_MAGIC = b"PAR1"
SQLITE_MAGIC = b"SQLite format 3\0"


def find_traces(roots: Iterable[Path], names: Sequence[str]) -> list[Path]:
    """Every file under `roots` in which one of the names stands.

    Raises:
        DataError: a file cannot be read, so nobody can say that the name is not in it.
    """
    files = {path.absolute() for root in roots for path in ([root] if root.is_file() else root.rglob("*"))}
    return [path for path in sorted(files) if path.is_file() and not path.is_symlink() and holds(path, names)]


def holds(path: Path, names: Sequence[str]) -> bool:
    """True where one of the names stands in a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if path.suffix == ".parquet" or head.startswith(PARQUET_MAGIC):
            return _table_holds(path, names)
        if path.suffix in DATABASES or head == SQLITE_MAGIC:
            return _database_holds(path, names)
        pattern = _pattern(path, names)
        return pattern is not None and bool(pattern.search(path.read_bytes()))
    except (OSError, pl.exceptions.PolarsError, sqlite3.Error) as error:
        raise DataError(f"{path} cannot be searched ({error}); see that it is whole, then search again") from error


def without_rows(path: Path, names: Sequence[str]) -> pl.DataFrame | None:
    """A table of events without the rows of these users; None where the file is no such table."""
    with path.open("rb") as file:
        if "user_id" not in pl.read_parquet_schema(file):
            return None
        file.seek(0)
        return pl.read_parquet(file).filter(~pl.col("user_id").is_in(list(names)))


def _table_holds(path: Path, names: Sequence[str]) -> bool:
    with path.open("rb") as file:
        table = pl.read_parquet(file)
    texts = [pl.col(name) for name, dtype in table.schema.items() if dtype == pl.String]
    if not texts or table.is_empty():
        return False
    found = [text.is_in(list(names)) | _quoted_in(text, names) for text in texts]
    return bool(table.select(pl.any_horizontal(one.fill_null(False).any() for one in found)).item())


def _quoted_in(text: pl.Expr, names: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(text.str.contains(f'"{name}"', literal=True) for name in names)


def _database_holds(path: Path, names: Sequence[str]) -> bool:
    """By its rows; then, for what deleted rows left behind, by its bytes, unless a longer name holds this one."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for name in names:
            if _in_rows(connection, name, '"{0}" = ?1 OR instr("{0}", \'"\' || ?1 || \'"\') > 0'):
                return True
        alone = [name for name in names if not _in_rows(connection, name, 'instr("{0}", ?1) > 0')]
    finally:
        connection.close()
    pattern = _pattern(path, alone)
    return pattern is not None and bool(pattern.search(path.read_bytes()))


def _in_rows(connection: sqlite3.Connection, name: str, condition: str) -> bool:
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        where = " OR ".join(condition.format(column) for column in columns)
        if columns and connection.execute(f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1', [name]).fetchone():
            return True
    return False


def _pattern(path: Path, names: Sequence[str]) -> re.Pattern[bytes] | None:
    if path.suffix in JSON:
        parts = [re.escape(f'"{name}"'.encode()) for name in names]
    elif path.suffix in TEXTS:
        parts = [rb"(?<![0-9A-Za-z_])" + re.escape(name.encode()) + rb"(?![0-9A-Za-z_])" for name in names]
    else:
        parts = [re.escape(name.encode()) for name in names if len(name) >= MIN_BINARY_CHARS]
    return re.compile(b"|".join(parts)) if parts else None
