"""What a source brings becomes an event once or is held with its reason: duplicates, crashes, restarts."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from stream_bench import NOW, event, settings_under, table

from penstock.data.journal import Journal
from penstock.data.sources import open_source
from penstock.data.sources.feed import Fed, Feed, retry
from penstock.data.sources.files import FileSource
from penstock.data.sources.ledger import count_refused, list_refused, read_positions
from penstock.data.sources.protocol import Batch, Message
from penstock.data.state import open_state
from penstock.errors import DependencyMissing, SettingsError, SourceError, StateError
from penstock.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_under(tmp_path / "home")


@pytest.fixture
def journal(settings: Settings) -> Iterator[Journal]:
    state = open_state(settings.state.url)
    yield Journal(state, settings.data)
    state.engine.dispose()


def line(number: int, **changes: Any) -> bytes:
    row = event(number, **changes)
    return json.dumps(row | {"at": row["at"].isoformat()}).encode() + b"\n"


def fed(journal: Journal, connect: Callable[[], Any], rows: int = 7) -> Fed:
    feed = Feed(connect, journal, rows, 0.01, lambda: NOW)
    feed.drain(lambda total: None)
    feed.source.close()
    return feed.total


def taken(journal: Journal) -> list[str]:
    return sorted(journal.read(0, 100_000)["event_id"].to_list())


class Broker:
    """A source in memory that hands out again whatever was not acknowledged."""

    name = "broker://test"

    def __init__(self, messages: list[Message]) -> None:
        self.messages, self.acknowledged, self.lost_acks = messages, 0, 0
        self.polls = 0

    def resume(self, positions: Callable[[], Mapping[str, int]]) -> None:
        pass

    def poll(self, limit: int, wait_s: float) -> Batch:
        self.polls += 1
        return Batch(self.messages[self.acknowledged : self.acknowledged + limit])

    def acknowledge(self, batch: Batch) -> None:
        if self.lost_acks:
            self.lost_acks -= 1
            raise SourceError("the broker is gone")
        self.acknowledged += len(batch.messages)

    def close(self) -> None:
        pass


def test_thirty_percent_duplicates_shuffled_reconcile(journal: Journal) -> None:
    draw = random.Random(3)
    lines = [line(number) for number in range(1000)]
    sent = lines + draw.choices(lines, k=300) + [b"{nonsense", b"[1]", b"\xff", line(9999, kind="clik")] * 5
    draw.shuffle(sent)
    broker = Broker([Message(value, str(place)) for place, value in enumerate(sent)])
    assert fed(journal, lambda: broker, 64) == Fed(1320, 1000, 300, 20)
    assert taken(journal) == [f"e{number:05}" for number in range(1000)]
    assert (broker.acknowledged, count_refused(journal.state)) == (1320, 20)


def test_a_batch_that_comes_again_because_its_acknowledgement_was_lost_changes_nothing(journal: Journal) -> None:
    broker = Broker([Message(line(1), "0"), Message(b"{", "1")])
    broker.lost_acks = 1
    feed = Feed(lambda: broker, journal, 10, 0.01, lambda: NOW)
    with pytest.raises(SourceError):
        feed.once()
    assert feed.once()
    assert feed.total == Fed(4, 1, 2, 1)
    assert (taken(journal), len(list_refused(journal.state))) == (["e00001"], 1)


def test_nothing_is_acknowledged_that_is_not_durable(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker([Message(line(1), "0"), Message(b"{", "1")])

    def full(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr("penstock.data.sources.feed.advance", full)
    feed = Feed(lambda: broker, journal, 10, 0.01, lambda: NOW)
    with pytest.raises(StateError, match="disk is full"):
        feed.once()
    assert (broker.acknowledged, taken(journal), count_refused(journal.state)) == (0, [], 0)
    monkeypatch.undo()
    assert feed.once()
    assert (broker.acknowledged, taken(journal)) == (2, ["e00001"])


def test_a_source_that_is_gone_is_tried_again_ever_more_seldom(journal: Journal) -> None:
    pauses: list[float] = []

    class Gone(Broker):
        def poll(self, limit: int, wait_s: float) -> Batch:
            if len(pauses) < 7:
                raise SourceError("nobody answers")
            if self.acknowledged:
                raise KeyboardInterrupt
            return super().poll(limit, wait_s)

    broker = Gone([Message(line(1), "0")])
    feed = Feed(lambda: broker, journal, 10, 0.01, lambda: NOW)
    with pytest.raises(KeyboardInterrupt):
        feed.follow(lambda total: None, pauses.append)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert taken(journal) == ["e00001"]


def test_a_refused_message_says_why_and_is_taken_after_a_correction(settings: Settings, journal: Journal) -> None:
    late = NOW - timedelta(days=365)
    messages = [Message(line(1, kind="share"), "a"), Message(line(2), "b", late), Message(b"nonsense", "c")]
    assert fed(journal, lambda: Broker(messages)) == Fed(3, 0, 0, 3)
    kind, clock, nonsense = list_refused(journal.state)
    assert kind.reason.startswith("kind is 'share', expected one of")
    assert clock.reason.startswith("at is 2026-03-02T11:30:00+00:00, expected no later than 2025-03-02T12:05"), (
        "a clock a year ahead of the broker's"
    )
    assert (nonsense.place, nonsense.value) == ("c", b"nonsense")
    gains = settings.data.gains | {"share": 1.0}
    corrected = Journal(journal.state, settings.data.model_copy(update={"gains": gains}))
    assert retry(journal.state, corrected, NOW) == Fed(3, 1, 0, 2)
    assert taken(journal) == ["e00001"]
    assert [one.place for one in list_refused(journal.state)] == ["b", "c"]


# ---- files


def test_new_files_are_taken_once_in_the_order_of_their_names(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "in box"
    folder.mkdir()
    (folder / "b.jsonl").write_bytes(b"".join(line(number) for number in range(20)) + b"\n{\n")
    table([event(number, minutes_ago=40) for number in range(15, 30)]).write_parquet(folder / "a.parquet")
    for ignored in (".hidden.jsonl", "_part.jsonl", "readme.txt"):
        (folder / ignored).write_bytes(line(500))
    (folder / "c.parquet").write_bytes(b"PAR1 cut short")
    total = fed(journal, lambda: FileSource(str(folder)))
    assert total == Fed(37, 30, 5, 2)
    assert taken(journal) == [f"e{number:05}" for number in range(30)]
    received = journal.read(0, 15)["received_at"].unique().to_list()
    assert received == [NOW - timedelta(minutes=40)], "a table says when it was received"
    reasons = {one.place.rsplit("/", 1)[-1]: one.reason for one in list_refused(journal.state)}
    assert reasons["b.jsonl:22"].startswith("not a JSON object")
    assert "c.parquet (14 bytes) is no whole Parquet file" in reasons["c.parquet"]
    (folder / "d.ndjson").write_bytes(line(77))
    assert fed(journal, lambda: FileSource(f"file://{folder}")) == Fed(1, 1, 0, 0), "the others are known"
    assert fed(journal, lambda: FileSource(str(folder))) == Fed()


def test_what_is_not_read_of_a_folder_is_said(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    grows, empty = folder / "grows.jsonl", folder / "empty.jsonl"
    grows.write_bytes(line(1) + line(2))
    empty.touch()
    (folder / "_part.csv").touch()
    table([event(3)]).write_parquet(folder / "whole.parquet")
    for _ in range(2):
        fed(journal, lambda: FileSource(str(folder)), 1)
    assert caplog.messages == []
    size = len(grows.read_bytes())
    for path in (grows, empty):
        path.write_bytes(path.read_bytes() + line(4))
    (folder / "log.csv").write_text("event_id")
    assert fed(journal, lambda: FileSource(str(folder)), 1) == Fed(0, 0, 0, 0)
    told = [message.removeprefix(f"{folder}/") for message in caplog.messages]
    assert [one.split(":")[0] for one in told] == [
        f"empty.jsonl was taken when it held 0 bytes and holds {len(line(4))} now",
        f"grows.jsonl was taken when it held {size} bytes and holds {size + len(line(4))} now",
        "log.csv is left",
    ]


def test_a_file_left_half_read_goes_on_where_the_ledger_says(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(b"".join(line(number) for number in range(10)))
    feed = Feed(lambda: FileSource(str(tmp_path / "in")), journal, 4, 0.01, lambda: NOW)
    assert feed.once()
    assert list(read_positions(journal.state, feed.source.name).values()) == [4]
    assert fed(journal, lambda: FileSource(str(tmp_path / "in")), 4) == Fed(6, 6, 0, 0)
    assert len(taken(journal)) == 10


def test_a_folder_behind_an_fsspec_address(journal: Journal) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/events/a.jsonl", line(1) + line(2))
    try:
        assert fed(journal, lambda: FileSource("memory://events")) == Fed(2, 2, 0, 0)
        store.pipe("/events/b.jsonl", line(2) + line(3))
        assert fed(journal, lambda: FileSource("memory://events")) == Fed(2, 1, 1, 0)
    finally:
        store.rm("/events", recursive=True)


def test_a_folder_that_is_not_there(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere is no folder; make it"):
        fed(journal, lambda: FileSource(str(tmp_path / "nowhere")))


# ---- addresses


@pytest.mark.parametrize(
    "address",
    ["", "files:", "ftp://host/file", "redis://host/0", "redis://host/0?stream=s&colour=red", "kafka://host", "x"],
)
def test_an_address_that_is_none_says_what_one_looks_like(settings: Settings, address: str) -> None:
    with pytest.raises(
        SettingsError, match=r"is no address of a source, expected files:FOLDER .*kafka://HOST:PORT/TOPIC"
    ):
        open_source(address, settings.sources)


def test_a_file_system_that_is_not_installed(settings: Settings) -> None:
    with pytest.raises(DependencyMissing, match="install the fsspec package"):
        open_source("files:nosuch://bucket/events", settings.sources)


def test_a_table_row_that_cannot_be_an_event_is_held_readably(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pl.DataFrame({"event_id": ["e"], "at": [NOW], "value": [float("nan")]}).write_parquet(tmp_path / "in" / "a.parquet")
    assert fed(journal, lambda: FileSource(str(tmp_path / "in"))).refused == 1
    (held,) = list_refused(journal.state)
    assert json.loads(held.value) == {"event_id": "e", "at": str(NOW), "value": None}
