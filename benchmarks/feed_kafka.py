"""A hundred thousand events through Kafka into the journal while brokers bounce and readers are killed: set equality.

    python benchmarks/feed_kafka.py [--events 100000] [--kills 20] [--bounces 40]

After Kafka's own transaction test. 30% of the events are sent twice and all are shuffled; one message in a thousand is
no event. An idempotent producer sends (acks of all replicas) while one broker of three after the other goes down and
comes back, every fifth time all three at once. Two readers, processes of their own in one group, kill themselves with
SIGKILL at places drawn from a seed: before their transaction, within it, or after it and before the acknowledgement;
then another takes over. The brokers are librdkafka's mock (mock_brokers.py): one that comes back has its log.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

import measure
from mock_brokers import MockBrokers
from penstock.data.journal import Journal
from penstock.data.sources.feed import Feed
from penstock.data.sources.kafka import KafkaSource
from penstock.data.sources.ledger import count_refused, read_positions
from penstock.data.sources.protocol import Batch
from penstock.data.state import open_state
from penstock.settings import load_settings

TOPIC, GROUP = "events", "readers"
BROKERS, PARTITIONS, READERS, BATCH_ROWS = 3, 4, 2, 500
READING = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 300, "log_level": 2}
SENDING = {"enable.idempotence": True, "acks": "all", "message.timeout.ms": 300_000, "log_level": 2}
PLACES = ("before", "within", "after")


class MortalSource(KafkaSource):
    """A source whose process is killed after so many batches, before the transaction or before the acknowledgement."""

    place: str | None = None
    batches_left = 0

    def poll(self, limit: int, wait_s: float) -> Batch:
        batch = super().poll(limit, wait_s)
        self.batches_left -= bool(batch.messages)
        self.die_at("before")
        return batch

    def acknowledge(self, batch: Batch) -> None:
        self.die_at("after")
        super().acknowledge(batch)

    def die_at(self, place: str) -> None:
        """As `kill -9` from outside: nothing is closed, the group is not left."""
        if self.place == place and self.batches_left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalJournal(Journal):
    """A journal whose process is killed within the transaction, once the events are inserted."""

    source: MortalSource

    def insert(self, conn: Any, rows: list[dict[str, Any]]) -> int:
        new = super().insert(conn, rows)
        self.source.die_at("within")
        return new


def shop(root: Path) -> Any:
    """Settings of a shop whose state lies in a folder."""
    places = {"state.url": f"sqlite:///{root}/state.db", "state.home": str(root)}
    return load_settings().override(places | {"data.user_key_file": f"{root}/users.json"})


def read(root: Path, address: str, place: str | None, batches: int) -> None:
    """A reader's process: feeds until it is killed."""
    settings = shop(root)
    journal = MortalJournal(open_state(settings.state.url), settings.data)

    def connect() -> KafkaSource:
        journal.source = MortalSource(address, TOPIC, GROUP, READING)
        journal.source.place, journal.source.batches_left = place, batches
        return journal.source

    Feed(connect, journal, BATCH_ROWS, 0.5).follow(lambda fed: None)


class Readers:
    """Reader processes, each replaced when it was killed; none of those that follow `kills` dead ones dies."""

    def __init__(self, root: Path, address: str, kills: int, draw: random.Random) -> None:
        self.root, self.address, self.kills, self.draw = root, address, kills, draw
        self.context = multiprocessing.get_context("spawn")
        self.killed, self.doomed = 0, 0
        self.alive = [self._start() for _ in range(READERS)]

    def replace_dead(self) -> None:
        """Start a reader for each that was killed.

        Raises:
            RuntimeError: one ended in another way.
        """
        for number, one in enumerate(self.alive):
            if one.exitcode is None:
                continue
            if one.exitcode != -signal.SIGKILL:
                raise RuntimeError(f"a reader ended with {one.exitcode}, not by its kill")
            self.killed += 1
            self.alive[number] = self._start()

    def end(self) -> None:
        """Kill those that are left."""
        for one in self.alive:
            one.kill()
            one.join()

    def _start(self) -> Any:
        place = self.draw.choice(PLACES) if self.doomed < self.kills else None
        self.doomed += place is not None
        process = self.context.Process(target=read, args=(self.root, self.address, place, self.draw.randint(1, 4)))
        process.start()
        return process


def messages(events: int, draw: random.Random) -> list[bytes]:
    """The events, 30% of them twice, one in a thousand none, shuffled."""
    start = datetime.now(UTC) - timedelta(hours=1)
    lines = [
        json.dumps(
            {
                "event_id": f"e{number}",
                "user_id": f"u{number % 997}",
                "item_id": f"i{number % 211}",
                "kind": "click",
                "at": (start + timedelta(milliseconds=number)).isoformat(),
            }
        ).encode()
        for number in range(events)
    ]
    sent = lines + draw.choices(lines, k=events * 3 // 10) + [b"{nonsense"] * (events // 1000)
    draw.shuffle(sent)
    return sent


def send_through_bounces(brokers: MockBrokers, readers: Readers, sent: list[bytes], bounces: int) -> dict[str, int]:
    """Send everything, a part during each bounce and a part after it; returns how often what happened.

    Raises:
        RuntimeError: a message could not be delivered.
    """
    draw = random.Random(12)
    failed: list[str] = []
    producer = Producer({"bootstrap.servers": brokers.address, **SENDING, "queue.buffering.max.messages": len(sent)})
    outages = 0

    def send(part: list[bytes]) -> None:
        for number, value in enumerate(part):
            producer.produce(
                TOPIC, value, partition=number % PARTITIONS, on_delivery=lambda error, _: error and failed.append(error)
            )
        until = time.monotonic() + draw.uniform(0.2, 1.5)
        while time.monotonic() < until:
            producer.poll(0.05)
        readers.replace_dead()

    for bounce in range(bounces):
        part = sent[bounce::bounces]
        down = sorted(brokers.up) if bounce % 5 == 4 else [draw.choice(sorted(brokers.up))]
        outages += len(down) == BROKERS
        for broker in down:
            brokers.down(broker, draw)
        send(part[::2])
        for broker in down:
            brokers.back(broker, draw)
        send(part[1::2])
    if left := producer.flush(120):
        raise RuntimeError(f"{left} messages were not delivered within two minutes of the last bounce")
    if failed:
        raise RuntimeError(f"{len(failed)} messages were not delivered: {failed[0]}")
    return {"bounces": bounces, "of_all_brokers_at_once": outages}


def log_ends(address: str) -> dict[str, int]:
    """How many messages each partition holds."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "watching"})
    parts = range(PARTITIONS)
    ends = {str(part): consumer.get_watermark_offsets(TopicPartition(TOPIC, part), timeout=30)[1] for part in parts}
    consumer.close()
    return ends


def compare(journal: Journal, events: int) -> None:
    """Set equality of what was sent and what is there, none twice; messages that are no events are all held."""
    found: list[str] = []
    last = 0
    while len(page := journal.read(last, 20_000)):
        found += page["event_id"].to_list()
        last = int(page["seq"][-1])
    assert len(found) == len(set(found)), "an event is there twice"
    assert set(found) == {f"e{number}" for number in range(events)}, "an event is missing"
    assert count_refused(journal.state) == events // 1000, "a message that is no event is missing, or there twice"


def run(root: Path, events: int, kills: int, bounces: int) -> dict[str, float]:
    """Send and feed everything; returns the counts."""
    draw = random.Random(11)
    settings = shop(root)
    journal = Journal(open_state(settings.state.url), settings.data)
    journal.state.ensure()
    sent = messages(events, draw)
    started = time.perf_counter()
    with MockBrokers(BROKERS, TOPIC, PARTITIONS, GROUP) as brokers:
        readers = Readers(root, brokers.address, kills, draw)
        try:
            happened = send_through_bounces(brokers, readers, sent, bounces)
            ends = log_ends(brokers.address)
            while read_positions(journal.state, f"kafka://{brokers.address}/{TOPIC}") != ends:
                time.sleep(0.2)
                readers.replace_dead()
        finally:
            readers.end()
    took_s = time.perf_counter() - started
    compare(journal, events)
    counts = {
        "events": events,
        "messages": len(sent),
        "in_the_log": sum(ends.values()),
        "readers_killed": readers.killed,
    }
    return {**counts, **happened, "seconds": round(took_s, 1)}


def main() -> None:
    """Run, compare, and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--bounces", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), asked.events, asked.kills, asked.bounces)
    measure.save("feed_kafka", {"figures": figures, "lost": 0, "twice": 0})


if __name__ == "__main__":
    main()
