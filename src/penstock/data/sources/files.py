"""New files in a folder, here or behind an fsspec URL (s3://, gs://, …), each taken once.

Files end in .jsonl, .ndjson or .parquet and are taken in the order of their names. A file must appear whole (write it
under a name that begins with a dot or an underscore, then rename it): one that grows after it was taken is not read
again, and named in the log, as is one that ends otherwise. A file that cannot be read at all is held as one message,
and the next is taken.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from penstock.data.foreign import read_foreign
from penstock.data.sources.protocol import Batch, Message
from penstock.errors import DependencyMissing, SchemaError, SourceError

ENDINGS = (".jsonl", ".ndjson", ".parquet")
DONE = 1 << 62
"""Position of a file that was taken to its end, plus one, plus its bytes then; below it, the rows taken so far."""

log = logging.getLogger(__name__)


class FileSource:
    """See the module.

    Args:
        url: a folder, or an fsspec URL of one.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise DependencyMissing(
                f"{url} cannot be opened: {error}; install the fsspec package of that address (s3fs for s3://), or "
                "name a folder"
            ) from error
        self.name = f"files:{self._files.unstrip_protocol(self._root)}"
        self._positions: Callable[[], Mapping[str, int]] = dict
        self._taken: dict[str, int] = {}
        self._waiting: deque[str] = deque()
        self._open: tuple[str, Iterator[Message], bool] | None = None
        self._bytes = 0
        self._told: set[str] = set()

    def resume(self, positions: Callable[[], Mapping[str, int]]) -> None:
        """Go on after what the ledger says was taken."""
        self._positions = positions

    def poll(self, limit: int, wait_s: float) -> Batch:
        """Rows of one file; the folder is looked at once, and where nothing is new `wait_s` passes.

        Raises:
            SourceError: the folder cannot be listed.
        """
        if self._open is None:
            if not self._waiting:
                self._waiting.extend(self._new())
            if not self._waiting:
                time.sleep(wait_s)
                return Batch([])
            path = self._waiting.popleft()
            rows, keep = self._rows(path)
            self._open = path, islice(rows, self._taken.get(path, 0), None), keep
        path, rows, keep = self._open
        try:
            messages = list(islice(rows, limit))
        except OSError as error:
            self._open = None
            raise SourceError(f"{path} cannot be read on ({error}); what was taken of it stays") from error
        at_end = len(messages) < limit
        self._taken[path] = DONE + 1 + self._bytes if at_end else self._taken.get(path, 0) + len(messages)
        if at_end:
            self._open = None
        return Batch(messages, {path: self._taken[path]}, keep)

    def acknowledge(self, batch: Batch) -> None:
        """Nothing to do: files stay where they are, and the ledger knows which were taken."""

    def close(self) -> None:
        """Let go of the file that is being read."""
        self._open = None

    def _new(self) -> list[str]:
        self._taken = dict(self._positions())
        self._files.invalidate_cache()
        try:
            if not self._files.isdir(self._root):
                raise SourceError(f"{self.name} is no folder; make it, or name one that is there")
            listed = {one["name"]: one for one in self._files.ls(self._root, detail=True) if one["type"] != "directory"}
        except OSError as error:
            raise SourceError(
                f"{self.name} cannot be listed ({error}); see that it is there and may be read"
            ) from error
        whole = [path for path in sorted(listed) if not path.rsplit("/", 1)[-1].startswith((".", "_"))]
        for path in whole:
            self._tell_of(path, listed[path]["size"])
        return [path for path in whole if path.endswith(ENDINGS) and self._taken.get(path, 0) < DONE]

    def _tell_of(self, path: str, size: int | None) -> None:
        """Say once of a file that it, or what came to it, is not read."""
        known = self._taken.get(path, 0) - DONE - 1
        if path in self._told:
            return
        if not path.endswith(ENDINGS):
            log.warning("%s is left: no file that ends in %s; convert it, or rename it", path, ", ".join(ENDINGS))
        elif known >= 0 and size is not None and size > known:
            log.warning(
                "%s was taken when it held %d bytes and holds %d now: what was added is not read; write it to a new "
                "file, under a name that begins with a dot until it is whole", path, known, size)  # fmt: skip
        else:
            return
        self._told.add(path)

    def _rows(self, path: str) -> tuple[Iterator[Message], bool]:
        is_table = path.endswith(".parquet")
        return (self._table_rows if is_table else self._lines)(path), is_table

    def _lines(self, path: str) -> Iterator[Message]:
        with self._files.open(path, "rb") as lines:
            self._bytes = 0
            for number, line in enumerate(lines, 1):
                self._bytes += len(line)
                if line.strip():
                    yield Message(line.rstrip(b"\r\n"), f"{path}:{number}")

    def _table_rows(self, path: str) -> Iterator[Message]:
        with self._files.open(path, "rb") as file:
            data = file.read()
        self._bytes = len(data)
        try:
            frame = read_foreign(data, path)
        except SchemaError as error:
            yield Message(b"", path, broken=f"{error} under another name")
            return
        for number, row in enumerate(frame.iter_rows(named=True)):
            yield Message(_given(row), f"{path}:{number}")


def _given(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its nulls: a table has every column, an event need not."""
    return {name: value for name, value in row.items() if value is not None}
