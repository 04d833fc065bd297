"""The hashes of data: of bytes, of what happened, and those that DVC gives."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from penstock.records import EVENT_COLUMNS


def content_sha256(events: pl.DataFrame) -> str:
    """sha256 of what happened, whenever it was received: records.EVENT_COLUMNS but received_at, by (at, event_id).

    The bytes are CSV with a header, times as microseconds since 1970, a null as nothing and an empty text as "".
    """
    columns = [name for name in EVENT_COLUMNS if name != "received_at"]
    table = events.sort("at", "event_id").select(columns).with_columns(pl.col("at").dt.epoch("us"))
    return bytes_sha256(table.write_csv().encode())


def bytes_sha256(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


def dvc_file_md5(path: Path) -> str:
    """The hash that DVC 3 gives a file: md5 of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def dvc_md5(data: bytes) -> str:
    """The hash that DVC 3 gives these bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def dvc_tree(files: Mapping[str, str]) -> tuple[str, bytes]:
    """The hash that DVC 3 gives a folder, and the object it keeps under it.

    Costs nothing but the names: no file is read.

    Args:
        files: the md5 of each file, by its path within the folder.
    """
    entries = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{dvc_md5(listing)}.dir", listing
