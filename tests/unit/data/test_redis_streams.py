"""A consumer group of a Redis stream: nothing acknowledged too early, a dead consumer's entries taken over."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from stream_bench import event, settings_under

from penstock.data.journal import Journal
from penstock.data.sources.feed import Fed, Feed
from penstock.data.sources.ledger import list_refused
from penstock.data.sources.protocol import Batch
from penstock.data.sources.redis_streams import RedisSource
from penstock.data.state import open_state
from penstock.errors import SourceError


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    settings = settings_under(tmp_path)
    state = open_state(settings.state.url)
    yield Journal(state, settings.data)
    state.engine.dispose()


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


class Box:
    """One Redis, and consumers of its stream."""

    def __init__(self, server: fakeredis.FakeServer) -> None:
        self.server = server
        self.client = fakeredis.FakeRedis(server=server)

    def source(self, consumer: str, claim_idle_s: float = 60.0, kind: type[RedisSource] = RedisSource) -> RedisSource:
        address = "redis://:secret@host:6379/0"
        return kind(
            address, "events", "penstock", consumer, claim_idle_s, lambda _: fakeredis.FakeRedis(server=self.server)
        )

    def send(self, *numbers: int) -> None:
        for number in numbers:
            row = event(number)
            self.client.xadd("events", {"event": json.dumps(row | {"at": row["at"].isoformat()})})

    def pending(self) -> int:
        return int(self.client.xpending("events", "penstock")["pending"])


@pytest.fixture
def box(server: fakeredis.FakeServer) -> Box:
    return Box(server)


def feeding(journal: Journal, source: RedisSource, rows: int = 3) -> Feed:
    return Feed(lambda: source, journal, rows, 0.01)


def drained(journal: Journal, source: RedisSource) -> Fed:
    feed = feeding(journal, source)
    feed.drain(lambda total: None)
    source.close()
    return feed.total


def taken(journal: Journal) -> list[str]:
    return journal.read(0, 100)["event_id"].to_list()


def test_every_entry_is_taken_once_and_acknowledged(journal: Journal, box: Box) -> None:
    box.send(*range(8))
    box.client.xadd("events", {"event": "{"})
    box.client.xadd("events", {"user": "u", "item": "i"})
    assert drained(journal, box.source("a")) == Fed(10, 8, 0, 2)
    assert taken(journal) == [f"e{number:05}" for number in range(8)]
    assert box.pending() == 0
    broken, other = list_refused(journal.state)
    assert broken.reason.startswith("not a JSON object")
    assert other.reason == "fields item, user, expected `event` with the event as JSON"
    assert "secret" not in broken.source
    box.send(8, 3)
    assert drained(journal, box.source("a")) == Fed(2, 1, 1, 0)


def test_a_dead_consumers_entries_are_taken_over(journal: Journal, box: Box) -> None:
    box.send(1, 2, 3, 4, 5)
    assert len(box.source("dead").poll(3, 0.01).messages) == 3
    patient, eager = box.source("b", claim_idle_s=3600), box.source("b", claim_idle_s=0.0)
    assert drained(journal, patient) == Fed(2, 2, 0, 0), "those of one that may live are left alone"
    assert box.pending() == 3
    feed = feeding(journal, eager)
    assert feed.once()
    assert sorted(taken(journal)) == [f"e{number:05}" for number in range(1, 6)]
    assert box.pending() == 0


def test_a_consumer_that_comes_back_reads_its_own_first(journal: Journal, box: Box) -> None:
    box.send(1, 2)
    box.source("a").poll(10, 0.01)
    box.send(3)
    assert drained(journal, box.source("a")) == Fed(3, 3, 0, 0)
    assert taken(journal) == ["e00001", "e00002", "e00003"]


def test_redis_gone_acknowledges_nothing_and_loses_nothing(
    journal: Journal, box: Box, server: fakeredis.FakeServer
) -> None:
    box.send(1, 2)
    feed = feeding(journal, box.source("a"))
    server.connected = False
    with pytest.raises(SourceError, match=r"redis://host:6379/0#events cannot be read"):
        feed.once()
    server.connected = True
    batch = feed.source.poll(10, 0.01)
    server.connected = False
    with pytest.raises(SourceError, match=r"cannot be acknowledged .* it comes again"):
        feed.source.acknowledge(batch)
    server.connected = True
    assert drained(journal, box.source("a")) == Fed(2, 2, 0, 0)


class Outage:
    """A Redis that is back after some seconds, by a clock that only sleeping moves."""

    def __init__(self, server: fakeredis.FakeServer, until_s: float) -> None:
        self.server, self.until_s, self.now_s = server, until_s, 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.server.connected = self.now_s >= self.until_s


def test_a_feed_outlives_a_redis_that_is_gone_for_five_minutes(
    journal: Journal, box: Box, server: fakeredis.FakeServer
) -> None:
    """It goes between the journal's commit and the acknowledgement, where a false one would lose the batch."""
    outage = Outage(server, 300.0)
    box.send(*range(20))

    class Breaking(RedisSource):
        """Loses Redis once, when the second batch is durable and not acknowledged yet."""

        def acknowledge(self, batch: Batch) -> None:
            if not outage.now_s and len(taken(journal)) > 3:
                server.connected = False
            super().acknowledge(batch)

    waiting: list[int] = []

    def sleep(seconds: float) -> None:
        outage.sleep(seconds)
        waiting.append(len(taken(journal)))
        if server.connected:
            assert box.pending() == 3, "the batch that was not acknowledged is still the group's"
            box.send(*range(20, 25))

    def told(total: Fed) -> None:
        if len(taken(journal)) == 25 and box.pending() == 0:
            raise KeyboardInterrupt

    feed = Feed(lambda: box.source("a", kind=Breaking), journal, 3, 0.01)
    with pytest.raises(KeyboardInterrupt):
        feed.follow(told, sleep)
    assert outage.now_s >= 300
    assert set(waiting) == {6}, "what was taken before stays, nothing is made up"
    assert feed.total == Fed(28, 25, 3, 0), "the batch came again and changed nothing"
    assert taken(journal) == [f"e{number:05}" for number in range(25)]
    feed.source.close()


def test_an_entry_knows_when_redis_took_it(journal: Journal, box: Box) -> None:
    box.client.xadd("events", {"event": json.dumps(_ahead())}, id="1000000000000-0")
    assert drained(journal, box.source("a")) == Fed(1, 0, 0, 1)
    assert "expected no later than 2001-09-09" in list_refused(journal.state)[0].reason


def _ahead() -> dict[str, Any]:
    return event(1) | {"at": "2002-09-09T00:00:00Z"}
