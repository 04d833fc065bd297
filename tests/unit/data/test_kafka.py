"""Kafka offsets live in the ledger: each message is taken once, whatever the group remembers. librdkafka's own mock."""

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from stream_bench import event, settings_under

from benchmarks.mock_brokers import MockBrokers
from penstock.data.journal import Journal
from penstock.data.sources.feed import Fed, Feed
from penstock.data.sources.kafka import KafkaSource
from penstock.data.sources.ledger import list_refused, read_positions
from penstock.data.state import open_state

OPTIONS = {"session.timeout.ms": 6000, "topic.metadata.refresh.interval.ms": 200}
QUIET = {"log_level": 2}


@pytest.fixture(scope="module")
def producer() -> Iterator[Producer]:
    """It owns the mock cluster, so it lives as long as the tests."""
    made = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "linger.ms": 1})
    yield made
    made.flush(5)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    yield Journal(state, settings.data)
    state.engine.dispose()


def brokers(producer: Producer) -> str:
    return ",".join(f"{one.host}:{one.port}" for one in producer.list_topics(timeout=5).brokers.values())


def send(producer: Producer, topic: str, values: list[bytes]) -> None:
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(5) == 0


def message(number: int) -> bytes:
    row = event(number)
    return json.dumps(row | {"at": row["at"].isoformat()}).encode()


def feed_until(journal: Journal, source: KafkaSource, read: int, rows: int = 4) -> Fed:
    """Feed until so many messages were read, at most 20 s; then leave the group as a process that was killed would."""
    feed = Feed(lambda: source, journal, rows, 0.2)
    started = datetime.now(UTC)
    while feed.total.read < read and (datetime.now(UTC) - started).total_seconds() < 20:
        feed.once()
    source.close()
    return feed.total


def test_each_message_once_through_restarts_and_a_group_that_forgot(producer: Producer, journal: Journal) -> None:
    send(producer, "events", [message(number) for number in range(10)] + [b"{", message(3)])
    address = brokers(producer)
    assert feed_until(journal, KafkaSource(address, "events", "g", OPTIONS), 12) == Fed(12, 10, 1, 1)
    name = KafkaSource(address, "events", "g", OPTIONS)
    assert read_positions(journal.state, name.name) == {"0": 12}
    name.close()
    (held,) = list_refused(journal.state)
    assert held.place == "0@10"
    send(producer, "events", [message(10)])
    other_group = KafkaSource(address, "events", "another", OPTIONS)
    assert feed_until(journal, other_group, 1) == Fed(1, 1, 0, 0), "the ledger says where to go on, not the group"
    assert len(journal.read(0, 100)) == 11


def test_the_ledger_decides_where_the_group_says_more(producer: Producer, journal: Journal) -> None:
    send(producer, "again", [message(number) for number in range(3)])
    address = brokers(producer)
    ahead = Consumer({"bootstrap.servers": address, "group.id": "h"})
    ahead.commit(offsets=[TopicPartition("again", 0, 3)], asynchronous=False)
    ahead.close()
    assert feed_until(journal, KafkaSource(address, "again", "h", OPTIONS), 3) == Fed(3, 3, 0, 0)


def test_each_event_once_though_brokers_bounce_and_readers_are_replaced(journal: Journal) -> None:
    draw = random.Random(5)
    reading = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 100, "reconnect.backoff.max.ms": 200}
    with MockBrokers(3, "bounced", 2, "b") as cluster:
        address = cluster.address
        sender = Producer({"bootstrap.servers": address, "enable.idempotence": True, "acks": "all", **QUIET})
        for turn, down in enumerate(([1], [2], [3], [1, 2, 3])):
            feed = Feed(lambda: KafkaSource(address, "bounced", "b", reading | QUIET), journal, 20, 0.1)
            for broker in down:
                cluster.down(broker, draw)
            for number in range(turn * 50, turn * 50 + 50):
                sender.produce("bounced", message(number), partition=number % 2)
            polls = iter(range(5))
            follow(feed, lambda polls=polls: next(polls, None) is None)
            for broker in down:
                cluster.back(broker, draw)
            assert sender.flush(60) == 0
            until = time.monotonic() + 120
            follow(feed, lambda feed=feed, until=until: feed.total.accepted >= 50 or time.monotonic() > until)
            feed.source.close()
    assert journal.read(0, 1000)["event_id"].sort().to_list() == [event(number)["event_id"] for number in range(200)]


def follow(feed: Feed, stopped: Callable[[], bool]) -> None:
    """Feed through failures, without a pause after one."""
    feed.follow(lambda fed: None, sleep=lambda pause_s: None, stopped=stopped)
