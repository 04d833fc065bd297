"""A hundred thousand messages through Kafka into the journal while the reader keeps dying: set equality, no duplicate.

    python benchmarks/feed_kafka.py [--events 100000] [--deaths 20]

After Kafka's own transaction test. 30% of the events are sent twice and all are shuffled; one message in a thousand is
no event. The reader dies at random: before its transaction, within it, or after it and before the acknowledgement; then
another takes over under the same group. The brokers are librdkafka's mock, so they do not die.
"""

import argparse
import json
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer

import measure
from penstock.data.journal import Journal
from penstock.data.sources.feed import Feed
from penstock.data.sources.kafka import KafkaSource
from penstock.data.sources.ledger import count_refused
from penstock.data.state import open_state
from penstock.settings import load_settings

TOPIC = "events"
OPTIONS = {"session.timeout.ms": 6000, "topic.metadata.refresh.interval.ms": 200}


class Death(Exception):
    """Stands for a reader that is killed."""


class Mortal:
    """A source that dies at a place drawn from a seed, or never."""

    def __init__(self, source: KafkaSource, where: str | None, after: int) -> None:
        self.source, self.where, self.left, self.name = source, where, after, source.name

    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        return getattr(self.source, name)

    def poll(self, limit: int, wait_s: float):  # type: ignore[no-untyped-def]
        batch = self.source.poll(limit, wait_s)
        self.left -= 1 if batch.messages else 0
        if self.where == "before" and self.left <= 0:
            raise Death
        return batch

    def acknowledge(self, batch) -> None:  # type: ignore[no-untyped-def]
        if self.where == "after" and self.left <= 0:
            raise Death
        self.source.acknowledge(batch)


def messages(events: int, draw: random.Random) -> list[bytes]:
    """The events, 30% of them twice, some nonsense, shuffled."""
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


def run(root: Path, events: int, deaths: int) -> dict[str, float]:
    """Feed everything through readers that die; returns the counts."""
    draw = random.Random(11)
    settings = load_settings().override({"state.url": f"sqlite:///{root}/state.db", "state.home": str(root)})
    journal = Journal(open_state(settings.state.url), settings.data)
    producer = Producer(
        {"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "queue.buffering.max.messages": 2 * events}
    )
    sent = messages(events, draw)
    for number, value in enumerate(sent):
        producer.produce(TOPIC, value, partition=number % 4)
    producer.flush(60)
    brokers = ",".join(f"{one.host}:{one.port}" for one in producer.list_topics(timeout=5).brokers.values())
    died, read, started = 0, 0, time.perf_counter()
    insert = journal.insert
    while True:
        where = draw.choice(["before", "within", "after"]) if died < deaths else None
        source = Mortal(KafkaSource(brokers, TOPIC, f"g{died}", OPTIONS), where, draw.randint(1, 4))

        def failing(conn, rows, source=source, where=where):  # type: ignore[no-untyped-def]
            done = insert(conn, rows)
            if where == "within" and source.left <= 0:
                raise Death
            return done

        journal.insert = failing  # type: ignore[method-assign]
        feed = Feed(lambda source=source: source, journal, 1000, 0.5)  # type: ignore[misc]
        idle_since: float | None = None
        try:
            while idle_since is None or time.perf_counter() - idle_since < 8:
                idle_since = None if feed.once() else idle_since or time.perf_counter()
            break
        except Death:
            died += 1
        finally:
            read += feed.total.read
            source.close()
    took_s = time.perf_counter() - started
    found: list[str] = []
    last = 0
    while len(page := journal.read(last, 20_000)):
        found += page["event_id"].to_list()
        last = int(page["seq"][-1])
    assert len(found) == len(set(found)), "an event is there twice"
    assert set(found) == {f"e{number}" for number in range(events)}, "an event is missing"
    assert count_refused(journal.state) == events // 1000, "a message that is no event is missing"
    return {"events": events, "messages": len(sent), "deaths": died, "read_and_kept": read, "seconds": round(took_s, 1)}


def main() -> None:
    """Run, compare, and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--deaths", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), asked.events, asked.deaths)
    measure.save("feed_kafka", {"figures": figures, "lost": 0, "twice": 0})


if __name__ == "__main__":
    main()
