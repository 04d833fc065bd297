"""Entries of a Redis stream, read by a consumer group.

An entry's field `event` holds the event as JSON. An entry is acknowledged (XACK) once it is durable here. What a
consumer took and did not acknowledge, because it died, is claimed by another after `claim_idle_s` (XAUTOCLAIM).
Entries stay in the stream: trimming it is up to its owner.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.data.sources.protocol import Batch, Message
from penstock.errors import DependencyMissing, SourceError

FIELD = b"event"


class RedisSource:
    """See the module.

    Args:
        address: redis://host:port/db, or rediss://.
        consumer: this process's name in the group; what it left unacknowledged under that name it reads first.
        connect: makes the client; redis.Redis.from_url where it is left out.
    """

    def __init__(
        self,
        address: str,
        stream: str,
        group: str,
        consumer: str,
        claim_idle_s: float,
        connect: Callable[[str], Any] | None = None,
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise DependencyMissing("package redis is not installed; pip install 'penstock[redis]'") from error
        self._redis = (connect or redis.Redis.from_url)(address)
        self._gone = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError)
        self._exists = redis.ResponseError
        self.stream, self.group, self.consumer = stream, group, consumer
        self._claim_idle_s, self._claimed_s = claim_idle_s, -1e18
        self.name = f"redis://{address.rpartition('@')[2].removeprefix('rediss://').removeprefix('redis://')}#{stream}"
        self._joined = False
        self._own: str | None = "0"

    def resume(self, positions: Callable[[], Mapping[str, int]]) -> None:
        """The group knows its own position."""

    def poll(self, limit: int, wait_s: float) -> Batch:
        """What this consumer had left, then what dead ones left, then what is new.

        Raises:
            SourceError: Redis cannot be reached or refuses.
        """
        try:
            self._join()
            entries = self._left(limit) or self._claim(limit) or self._new(limit, wait_s)
        except self._gone as error:
            raise SourceError(
                f"{self.name} cannot be read ({error}); nothing is acknowledged that is not kept"
            ) from error
        return Batch([_message(name, fields) for name, fields in entries])

    def acknowledge(self, batch: Batch) -> None:
        """XACK what became durable.

        Raises:
            SourceError: Redis cannot be reached; the entries come again.
        """
        try:
            self._redis.xack(self.stream, self.group, *(message.place for message in batch.messages))
        except self._gone as error:
            raise SourceError(
                f"{self.name}: what was taken cannot be acknowledged ({error}); it comes again"
            ) from error

    def close(self) -> None:
        """Close the connection; the consumer stays in the group."""
        self._redis.close()

    def _join(self) -> None:
        if self._joined:
            return
        try:
            self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except self._exists as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._joined = True

    def _left(self, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """What an earlier process of this name took and did not acknowledge."""
        if self._own is None:
            return []
        found = self._read(self._own, limit, None)
        self._own = found[-1][0].decode() if found else None
        return found

    def _claim(self, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """What others took so long ago that they must have died; looked for half as often as that."""
        if time.monotonic() - self._claimed_s < self._claim_idle_s / 2:
            return []
        idle_ms = int(self._claim_idle_s * 1000)
        answer = self._redis.xautoclaim(self.stream, self.group, self.consumer, idle_ms, "0-0", count=limit)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = answer[1]
        if not entries:
            self._claimed_s = time.monotonic()
        return [entry for entry in entries if entry[0] is not None]

    def _new(self, limit: int, wait_s: float) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self._read(">", limit, max(1, int(wait_s * 1000)))

    def _read(self, after: str, limit: int, block_ms: int | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found = self._redis.xreadgroup(self.group, self.consumer, {self.stream: after}, count=limit, block=block_ms)
        streams: Any = found.items() if isinstance(found, dict) else found or []
        entries: list[tuple[bytes, dict[bytes, bytes]]] = []
        for _, pages in streams:
            entries += pages[0] if pages and isinstance(pages[0], list) else pages
        return entries


def _message(name: bytes, fields: dict[bytes, bytes] | None) -> Message:
    place = name.decode()
    sent_at = datetime.fromtimestamp(int(place.partition("-")[0]) / 1000, UTC)
    if fields is None:  # trimmed while it was pending: Redis knows its id, no longer what it held
        return Message(b"", place, sent_at, "the entry was trimmed from the stream before it was read")
    value = fields.get(FIELD)
    if value is None:
        kept = {str(key, "utf-8", "replace"): str(held, "utf-8", "replace") for key, held in fields.items()}
        return Message(
            kept, place, sent_at, f"fields {', '.join(sorted(kept))}, expected `event` with the event as JSON"
        )
    return Message(value, place, sent_at)
