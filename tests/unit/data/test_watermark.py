"""A window ends by event time: replays close the same windows, a pause or a wrong clock changes none."""

import random
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stream_bench import NOW, event, settings_under, table

from penstock.data.hashes import content_sha256
from penstock.data.journal import Journal
from penstock.data.rules import reasons_of, row_rules
from penstock.data.snapshot import close_snapshot, read_snapshot
from penstock.data.state import State, open_state
from penstock.records import SnapshotManifest
from penstock.settings import Settings

MINUTE = timedelta(minutes=1)


class Loop:
    """A journal and its snapshots, with a lateness of 5 minutes and a wait of 2."""

    def __init__(self, root: Path) -> None:
        changes = {"data.allowed_lateness_minutes": 5, "data.label_wait_minutes": 2}
        self.settings: Settings = settings_under(root, **changes)
        self.state: State = open_state(self.settings.state.url)
        self.journal = Journal(self.state, self.settings.data)

    def send(self, rows: list[dict[str, Any]], now: datetime = NOW) -> None:
        assert self.journal.append(rows, now).rejected == []

    def close(self, now: datetime = NOW) -> tuple[SnapshotManifest, list[str]]:
        manifest = close_snapshot(self.state, self.settings, now)
        assert manifest is not None
        return manifest, read_snapshot(manifest)["event_id"].to_list()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.state.engine.dispose()


def shown(number: int, minutes_ago: float, request: str, **changes: Any) -> dict[str, Any]:
    return event(number, minutes_ago, kind="impression", request_id=request) | changes


def test_the_window_trails_the_newest_event_not_the_wall_clock(loop: Loop) -> None:
    year = 365 * 24 * 60
    loop.send([event(1, year + 60), event(2, year + 8), event(3, year + 6.5), event(4, year)])
    manifest, taken = loop.close()
    assert taken == ["e00001", "e00002"], "a replay keeps back what may still be joined or followed"
    newest = NOW - timedelta(minutes=year)
    assert datetime.fromisoformat(manifest.watermark) == newest - 5 * MINUTE + timedelta(microseconds=1)
    assert datetime.fromisoformat(manifest.window_end) == newest - 7 * MINUTE + timedelta(microseconds=1)
    loop.send([event(5, year - 60)])
    following, taken = loop.close()
    assert taken == ["e00003", "e00004"]
    assert following.late_rows == 0, "they came in time, whatever the wall clock says"


def test_while_nothing_comes_time_goes_on_as_far_as_the_newest_event_needs(loop: Loop) -> None:
    loop.send([event(1, 8), event(2, 0)])
    _, taken = loop.close(NOW)
    assert taken == ["e00001"]
    assert close_snapshot(loop.state, loop.settings, NOW + 6 * MINUTE) is None
    rest, taken = loop.close(NOW + 7 * MINUTE)
    assert taken == ["e00002"]
    assert datetime.fromisoformat(rest.window_end) == NOW + timedelta(microseconds=1)
    loop.send([event(3, at=NOW + MINUTE)], NOW + timedelta(days=2))
    paused, _ = loop.close(NOW + timedelta(days=3))
    assert paused.late_rows == 0, "a pause of the sender makes nothing late"


def test_a_click_within_the_wait_is_in_its_requests_snapshot_one_after_it_is_not(loop: Loop) -> None:
    loop.send([
        shown(1, 60, "r1"), event(2, 58.5, request_id="r1"),
        shown(3, 57.5, "r2"), event(4, 56, request_id="r2"), event(5, 55.9),
        event(6, 50),
    ])  # fmt: skip
    manifest, taken = loop.close()
    assert manifest.window_end < (NOW - 56.9 * MINUTE).isoformat()
    assert taken == ["e00001", "e00002", "e00003", "e00004"], "r2 was followed after the window's end"
    loop.send([shown(7, 54, "r3"), event(8, 10, request_id="r2")])
    following, taken = loop.close()
    assert taken == ["e00005", "e00007", "e00006"]
    assert following.late_rows == 0
    assert loop.close(NOW + 60 * MINUTE)[1] == ["e00008"], "a label that came too late for its request still comes"


def test_a_late_event_goes_into_the_next_snapshot_and_is_marked(loop: Loop) -> None:
    loop.send([event(1, 60), event(2, 30)])
    loop.close()
    loop.send([event(3, 50), event(4, 20)])
    manifest, taken = loop.close()
    assert taken == ["e00003", "e00002"]
    late = read_snapshot(manifest).filter(at=NOW - 50 * MINUTE)
    assert manifest.late_rows == len(late) == 1
    assert late["at"][0] < datetime.fromisoformat(manifest.window_start)
    loop.send([event(5, 55)])
    only_late, taken = loop.close()
    assert (taken, only_late.late_rows) == (["e00005"], 1)
    assert only_late.window_start == only_late.window_end == manifest.window_end, "time never goes back"


def test_a_clock_that_is_a_year_off_is_held_and_moves_nothing(loop: Loop) -> None:
    loop.send([event(1, 60), event(2, 50)])
    before, _ = loop.close()
    assert loop.journal.append([event(3, -365 * 24 * 60)], NOW).accepted == 0, "refused at the door"
    log = table([event(4, 40), event(5, 30), event(6, 30, received_at=NOW - timedelta(days=365))])
    loop.journal.append(log, NOW)
    loop.send([event(7, 365 * 24 * 60), event(8, 49)])
    manifest, _ = loop.close()
    assert datetime.fromisoformat(manifest.window_end) < NOW - 30 * MINUTE
    events = read_snapshot(manifest)
    rules = row_rules(manifest, ["i1"], loop.settings)
    reasons = dict(zip(events["event_id"], reasons_of(events, rules).to_list(), strict=True))
    bad = {name: [one.split(":")[0] for one in why] for name, why in reasons.items() if why}
    assert bad["e00006"] == ["at before the watermark", "at not ahead of receipt"]
    assert bad["e00007"] == ["at not long before the window"]
    assert set(bad) == {"e00006", "e00007"}
    assert before.window_end < manifest.window_end


def test_when_an_event_was_received_does_not_change_the_hash(tmp_path: Path) -> None:
    found = set()
    for name, late in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        loop = Loop(tmp_path / name)
        loop.send([event(1, 60)], NOW - late * MINUTE)
        loop.send([event(2, 50), event(3, 40)])
        manifest, _ = loop.close()
        found.add((manifest.snapshot_id, manifest.content_sha256))
        loop.state.engine.dispose()
    assert len(found) == 1


REQUESTS = st.lists(st.tuples(st.integers(0, 120), st.lists(st.floats(0.1, 9), max_size=2)), min_size=1, max_size=12)


@given(REQUESTS, st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=25, deadline=None)
def test_any_order_and_any_duplicates_give_the_same_snapshots(
    requests: list[tuple[int, list[float]]], random: random.Random
) -> None:
    rows: list[dict[str, Any]] = []
    for number, (minutes_ago, delays) in enumerate(requests):
        rows += [shown(100 * number + n, 60 + minutes_ago, f"r{number}", item_id=f"i{n}", position=n) for n in (1, 2)]
        rows += [
            event(100 * number + 10 + n, 60 + minutes_ago - delay, request_id=f"r{number}")
            for n, delay in enumerate(delays)
        ]
    other = rows + random.choices(rows, k=max(1, len(rows) // 3))
    random.shuffle(other)
    assert snapshots_of([rows]) == snapshots_of([other[start : start + 5] for start in range(0, len(other), 5)])


def snapshots_of(batches: list[list[dict[str, Any]]]) -> list[tuple[str, str, str]]:
    """All batches, then closes as time goes on until everything has settled."""
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(Path(folder))
        for batch in batches:
            loop.send(batch)
        found = []
        for minutes in (0, 3, 60):
            manifest = close_snapshot(loop.state, loop.settings, NOW + minutes * MINUTE)
            if manifest is not None:
                assert manifest.content_sha256 == content_sha256(read_snapshot(manifest))
                found.append((manifest.snapshot_id, manifest.content_sha256, manifest.window_end))
        assert loop.journal.pending() == 0
        loop.state.engine.dispose()
    return found
