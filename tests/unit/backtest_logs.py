"""Small logs for the tests of the backtest: what everybody can rank, and the same with its future scrambled."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset, DatasetMeta
from penstock.pipeline.backtest import Backtest
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = 24
WORDS = ("red wool scarf", "blue cotton shirt", "green tea pot", "oak table", "steel knife", "paper lamp")


def small_log(repeats: bool = True, events: int = 320, users: int = 26, seed: int = 3) -> Dataset:
    """Purchases every quarter of an hour, at times two at one moment; items and users come as time goes on."""
    random = np.random.default_rng(seed)
    taste = random.integers(0, ITEMS, users)
    rows = []
    for n in range(events):
        user = int(random.integers(min(users, 6 + n // 16)))
        near = (taste[user] + random.integers(0, 4)) % ITEMS
        popular = min(int(random.zipf(1.6)) - 1, ITEMS - 1)
        item = min(int(near if random.random() < 0.6 else popular), 8 + n // 12)
        rows.append((f"e{n:04d}", f"u{user}", f"i{item}", START + timedelta(minutes=15 * (n - n % 5 % 2))))
    columns = dict(zip(("event_id", "user_id", "item_id", "at"), zip(*rows, strict=True), strict=True))
    frame = pl.DataFrame({name: list(values) for name, values in columns.items()})
    frame = frame.with_columns(kind=pl.lit("purchase"), received_at=pl.col("at"))
    names = [f"i{n}" for n in range(ITEMS)]
    catalogue = pl.DataFrame({"item_id": names, "title": [f"{WORDS[n % 6]} {n}" for n in range(ITEMS)]}).with_columns(
        category=pl.Series([f"c{n % 3}" for n in range(ITEMS)])
    )
    meta = DatasetMeta("small", "rank", repeats, "positives", ["purchase"], "made by a seed")
    return Dataset(typed(frame, EVENT_COLUMNS), typed(catalogue, CATALOGUE_COLUMNS), meta)


def typed(table: pl.DataFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """The table with exactly these columns, missing ones null."""
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in columns.items()
    )


def scrambled_after(dataset: Dataset, moment: datetime, seed: int = 11) -> Dataset:
    """Every event after `moment` with another's user, another's item and another's time of those after it."""
    random = np.random.default_rng(seed)
    events = dataset.events.sort("at", maintain_order=True)
    before, after = events.filter(pl.col("at") <= moment), events.filter(pl.col("at") > moment)
    shuffled = {name: after[name].gather(random.permutation(len(after))) for name in ("user_id", "item_id", "at")}
    mixed = after.with_columns(**shuffled).with_columns(received_at=pl.col("at")).sort("at", maintain_order=True)
    # The stream's last moment stays the last: where windows end is set by the clock, not by what is learned.
    return Dataset(pl.concat([before, mixed]), dataset.catalogue, dataset.meta)


def backtest_of(dataset: Dataset, settings: Settings, cache: Path) -> Backtest:
    """Its protocol, without progress."""
    return Backtest(dataset, settings, cache, silent)


silent: Callable[[str, int, int], None] = lambda what, done, total: None  # noqa: E731
