"""Messages of a Kafka topic, their offsets kept in the ledger with the events: each is taken exactly once.

A message's value is the event as JSON. Where to go on is read from the ledger whenever a partition is assigned, never
from Kafka; the group's offsets are committed there as well, for its lag to be seen.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.data.sources.protocol import Batch, Message
from penstock.errors import DependencyMissing, SourceError


class KafkaSource:
    """See the module.

    Args:
        brokers: host:port, by commas.
        options: further settings of librdkafka, as security.protocol.
    """

    def __init__(self, brokers: str, topic: str, group: str, options: Mapping[str, Any] | None = None) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise DependencyMissing(
                "package confluent-kafka is not installed; pip install 'penstock[kafka]'"
            ) from error
        self._kafka = confluent_kafka
        self.name, self.topic = f"kafka://{brokers}/{topic}", topic
        self._positions: Callable[[], Mapping[str, int]] = dict
        self._next: dict[str, int] = {}
        self._error: str | None = None
        self._closed = False
        settings = {
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "error_cb": self._note,
        }
        self._consumer = confluent_kafka.Consumer(settings | dict(options or {}))
        self._consumer.subscribe([topic], on_assign=self._assign)

    def resume(self, positions: Callable[[], Mapping[str, int]]) -> None:
        """Where each partition goes on; asked again whenever one is assigned."""
        self._positions = positions

    def poll(self, limit: int, wait_s: float) -> Batch:
        """What came, of all partitions that are this consumer's.

        Raises:
            SourceError: no broker can be reached, or what the ledger goes on from was deleted.
        """
        self._error = None
        found: Any = self._consumer.consume(limit, wait_s)
        messages = [one for one in found if one.error() is None]
        failed = [str(one.error()) for one in found if one.error() is not None and not _may_pass(self._kafka, one)]
        if not messages and (failed or self._error):
            raise SourceError(
                f"{self.name} cannot be read ({failed[0] if failed else self._error}); nothing was skipped"
            )
        taken = [one for one in messages if one.offset() >= self._next.get(str(one.partition()), 0)]
        moved: dict[str, int] = {}
        for one in taken:
            moved[str(one.partition())] = one.offset() + 1
        self._next.update(moved)
        return Batch([_message(one) for one in taken], moved)

    def acknowledge(self, batch: Batch) -> None:
        """Tell the group how far it is; the ledger decides."""
        offsets = [
            self._kafka.TopicPartition(self.topic, int(part), offset) for part, offset in batch.positions.items()
        ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except self._kafka.KafkaException as error:
            raise SourceError(
                f"{self.name}: the group cannot be told how far it is ({error}); the ledger is"
            ) from error

    def close(self) -> None:
        """Leave the group; again does nothing."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def _assign(self, consumer: Any, partitions: list[Any]) -> None:
        self._next = dict(self._positions())
        for partition in partitions:
            partition.offset = self._next.get(str(partition.partition), self._kafka.OFFSET_BEGINNING)
        consumer.assign(partitions)

    def _note(self, error: Any) -> None:
        if error.code() == self._kafka.KafkaError._ALL_BROKERS_DOWN:
            self._error = str(error)


def _may_pass(kafka: Any, message: Any) -> bool:
    """What is no failure: the end of a partition, and a topic that nobody has written to yet."""
    code = message.error().code()
    return code in (kafka.KafkaError._PARTITION_EOF, kafka.KafkaError.UNKNOWN_TOPIC_OR_PART)


def _message(one: Any) -> Message:
    kind, stamp_ms = one.timestamp()
    sent_at = None if kind == 0 or stamp_ms <= 0 else datetime.fromtimestamp(stamp_ms / 1000, UTC)
    return Message(one.value() or b"", f"{one.partition()}@{one.offset()}", sent_at)
