"""Kafka brokers that can be taken down and brought back: librdkafka's own mock cluster, reached through ctypes.

confluent_kafka's wheel brings librdkafka whole, the C interface of its mock cluster included, which the Python package
does not show. The brokers listen on real ports, but are one thread of this process with one log a partition: a broker
that is down refuses connections and answers nothing, and its log is there again when it is back, as that of a broker
with replicas would be. Who leads a partition is said here; nobody is elected.
"""

import ctypes
import random
from pathlib import Path
from types import TracebackType

import confluent_kafka

PRODUCER = 0
HANDLE, TEXT, NUMBER = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
SIGNATURES = {
    "rd_kafka_conf_new": (HANDLE, []),
    "rd_kafka_conf_set": (NUMBER, [HANDLE, TEXT, TEXT, TEXT, ctypes.c_size_t]),
    "rd_kafka_new": (HANDLE, [NUMBER, HANDLE, TEXT, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [HANDLE]),
    "rd_kafka_mock_cluster_new": (HANDLE, [HANDLE, NUMBER]),
    "rd_kafka_mock_cluster_bootstraps": (TEXT, [HANDLE]),
    "rd_kafka_mock_cluster_destroy": (None, [HANDLE]),
    "rd_kafka_mock_topic_create": (NUMBER, [HANDLE, TEXT, NUMBER, NUMBER]),
    "rd_kafka_mock_broker_set_down": (NUMBER, [HANDLE, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (NUMBER, [HANDLE, ctypes.c_int32]),
    "rd_kafka_mock_partition_set_leader": (NUMBER, [HANDLE, TEXT, ctypes.c_int32, ctypes.c_int32]),
    "rd_kafka_mock_coordinator_set": (NUMBER, [HANDLE, TEXT, TEXT, ctypes.c_int32]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [HANDLE, ctypes.c_int32]),
}


class MockBrokers:
    """Brokers 1 to `count` with one topic, all up; a context manager.

    Args:
        group: the consumer group whose coordinator moves with `down`.

    Raises:
        RuntimeError: librdkafka is not beside confluent_kafka, or refused a call.
    """

    def __init__(self, count: int, topic: str, partitions: int, group: str) -> None:
        self.topic, self.partitions, self.group = topic, partitions, group
        self.up = set(range(1, count + 1))
        self._lib = _librdkafka()
        said = ctypes.create_string_buffer(256)
        quiet = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set(quiet, b"log_level", b"2", said, len(said))
        self._client = self._lib.rd_kafka_new(PRODUCER, quiet, said, len(said))
        if not self._client:
            raise RuntimeError(f"librdkafka gave no client: {said.value.decode()}")
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, count)
        if not self._cluster:
            raise RuntimeError(f"librdkafka gave no mock cluster of {count} brokers")
        self.address = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        self._call("topic_create", topic.encode(), partitions, count)

    def down(self, broker: int, draw: random.Random) -> None:
        """Take a broker down; one that is still up, drawn, leads every partition and coordinates the group.

        With the last one down nothing moves: all waits until one is `back`.
        """
        self.up.discard(broker)
        self._call("broker_set_down", broker)
        if self.up:
            self._lead(draw)

    def back(self, broker: int, draw: random.Random) -> None:
        """Bring a broker back, with its log; who leads is drawn anew."""
        self._call("broker_set_up", broker)
        self.up.add(broker)
        self._lead(draw)

    def close(self) -> None:
        """End the brokers."""
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)

    def __enter__(self) -> "MockBrokers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _lead(self, draw: random.Random) -> None:
        alive = sorted(self.up)
        for partition in range(self.partitions):
            self._call("partition_set_leader", self.topic.encode(), partition, draw.choice(alive))
        self._call("coordinator_set", b"group", self.group.encode(), draw.choice(alive))

    def _call(self, name: str, *values: bytes | int) -> None:
        code = getattr(self._lib, f"rd_kafka_mock_{name}")(self._cluster, *values)
        if code:
            raise RuntimeError(f"rd_kafka_mock_{name}{values} returned {code}")


def _librdkafka() -> ctypes.CDLL:
    """The very library that confluent_kafka has loaded, its functions typed."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*.dylib")]
    if len(found) != 1:
        raise RuntimeError(f"one librdkafka was expected beside {package}, found {[one.name for one in found]}")
    library = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
