"""What one more window costs when there are a thousand: close, hash and publish it; and what packs save.

    python benchmarks/versioned_data.py [--windows 1000] [--rows 200]

Windows of clicks, made here; published to a folder on the same disk. The hash of everything is the one that DVC gives
the folder of all snapshots, from hashes that are known.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import measure
from penstock.data.journal import Journal
from penstock.data.packs import compact
from penstock.data.publishing import open_place, publish
from penstock.data.snapshot import close_snapshot, list_snapshots, mark_learned, read_snapshot
from penstock.data.state import State, open_state
from penstock.pipeline.learned_data import tree_md5
from penstock.records import AT, SnapshotManifest
from penstock.settings import Settings, load_settings

START = datetime(2026, 1, 5, tzinfo=UTC)


def add_window(state: State, settings: Settings, number: int, rows: int) -> SnapshotManifest:
    """Accept the events of an hour, close them, and count them as learned."""
    at = START + timedelta(hours=number)
    names = pl.Series(range(rows))
    events = pl.DataFrame(
        {
            "event_id": pl.select(pl.format("e{}-{}", pl.lit(number), names)).to_series(),
            "user_id": pl.select(pl.format("u{}", names % 97)).to_series(),
            "item_id": pl.select(pl.format("i{}", (names * 7919) % 1009)).to_series(),
            "kind": "click",
            "at": pl.select(pl.lit(at).cast(AT) + pl.duration(seconds=names)).to_series(),
        }
    ).with_columns(received_at="at")
    Journal(state, settings.data).append(events, at + timedelta(hours=1))
    manifest = close_snapshot(state, settings, at + timedelta(hours=1))
    assert manifest is not None
    with state.write() as conn:
        mark_learned(conn, manifest.snapshot_id)
    return manifest


def run(root: Path, windows: int, rows: int) -> dict[str, float]:
    """Figures in seconds, MB and files."""
    places = {"state.home": str(root / "home"), "state.url": f"sqlite:///{root}/state.db"}
    settings = load_settings().override(places | {"data.user_key_file": str(root / "users.json")})
    state, home, place = open_state(settings.state.url), settings.state.home, open_place(str(root / "remote"))
    figures: dict[str, float] = {}
    figures["close the first"] = measure.seconds(lambda: add_window(state, settings, 0, rows))
    figures["publish the first"] = measure.seconds(lambda: publish(state, home, place, START))
    for number in range(1, windows):
        add_window(state, settings, number, rows)
    figures["publish the other windows"] = measure.seconds(lambda: publish(state, home, place, START))
    figures["close one more"] = measure.seconds(lambda: add_window(state, settings, windows, rows))
    known = list_snapshots(state)
    figures["hash of everything"] = measure.seconds(lambda: tree_md5(known))
    figures["publish one more"] = measure.seconds(lambda: publish(state, home, place, START))
    figures["files before"] = len(list(home.rglob("*.parquet")))
    started = time.perf_counter()
    done = compact(home, known, settings.data.pack_rows)
    figures["compact"] = time.perf_counter() - started
    figures |= {"MB before": done.bytes_before / 1e6, "MB after": done.bytes_after / 1e6}
    figures["files after"] = len(list(home.rglob("*.parquet")))
    figures["read one from its pack"] = measure.seconds(lambda: read_snapshot(known[len(known) // 2]))
    return figures


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), asked.windows, asked.rows)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    measure.save("versioned_data", {"windows": asked.windows, "rows": asked.rows, "figures": rounded})


if __name__ == "__main__":
    main()
