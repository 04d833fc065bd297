"""How far append-only tables go, asked so often that a query each time would be felt.

On SQLite a connection is asked whether another one has committed since (`PRAGMA data_version`, some microseconds,
https://sqlite.org/pragma.html#pragma_data_version); only then are the last numbers read. So whoever answers requests
knows of a write by any process before its next answer. Another database is not asked: there the tables are polled.
"""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from penstock.data.state import State

log = logging.getLogger(__name__)


class Ends:
    """`read` from any thread.

    Args:
        columns: the number that counts up, of each table; the tables are there.
    """

    def __init__(self, state: State, columns: Sequence[sa.Column[Any]]) -> None:
        self._ends, self._seen, self._failed = (0,) * len(columns), -1, False
        self._connection: sqlite3.Connection | None = None
        if state.engine.dialect.name != "sqlite":
            return
        lasts = ", ".join(f"(SELECT coalesce(max({one.name}), 0) FROM {one.table.name})" for one in columns)
        self._query = f"SELECT {lasts}"
        path = str(state.engine.url.database)
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA query_only=ON")

    def read(self) -> tuple[int, ...]:
        """The last number of each table, 0 where it is empty or the database is not asked.

        What cannot be read just now is as it was: whoever follows the tables meets the fault too, and reports it.
        """
        if self._connection is None:
            return self._ends
        try:
            seen = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if seen != self._seen:
                self._ends = self._connection.execute(self._query).fetchone()
                self._seen = seen
            self._failed = False
        except sqlite3.Error as error:
            if not self._failed:
                log.warning("the ends of the tables cannot be read, the last known ones stand: %s", error)
            self._failed = True
        return self._ends

    def close(self) -> None:
        """Let the connection go; what was read last stands from then on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
