"""Items that came in through the service: durable in the state database, part of the catalogue from then on.

The dataset's catalogue.parquet is what was imported, versioned and never touched by a running loop. What is posted
stands beside it: the service follows this table as it follows the journal, and the next round learns from both.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.data.state import METADATA, SEQUENCE, State, to_micros
from penstock.records import AT, CATALOGUE_COLUMNS

table = sa.Table(
    "posted_items",
    METADATA,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("item_id", sa.Text, nullable=False, unique=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("published_at", sa.BigInteger),
    sa.Column("attributes", sa.Text),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
COLUMNS = ("item_id", "title", "body", "category", "published_at", "attributes")
SINCE = (
    sa.select(table.c.seq, *(table.c[name] for name in COLUMNS))
    .where(table.c.seq > sa.bindparam("since"))
    .order_by(table.c.seq)
)
NOTHING = pl.DataFrame(schema=CATALOGUE_COLUMNS)


class PostedItems:
    """Takes items in, and hands them on in the order in which they came."""

    def __init__(self, state: State) -> None:
        self.state = state
        state.ensure()

    def append(self, items: Sequence[Mapping[str, Any]], now: datetime) -> int:
        """Keep the items whose id was not posted before; durable when it returns. Returns how many those are.

        Args:
            items: `item_id`, `title`, and where known `body`, `category`, `published_at` (a time with its zone) and
                `attributes` (a JSON object as text). An item without a time is published `now`.

        Raises:
            StateError: the database cannot be written; nothing is kept then.
        """
        rows: dict[str, dict[str, Any]] = {}
        for item in items:
            row = {name: item.get(name) for name in COLUMNS}
            row["published_at"] = to_micros(item.get("published_at") or now)
            rows.setdefault(str(row["item_id"]), row | {"received_at": to_micros(now)})
        known = sa.select(table.c.item_id).where(table.c.item_id.in_(list(rows)))
        with self.state.write() as conn:
            for item_id in conn.execute(known).scalars():
                del rows[item_id]
            if rows:
                conn.execute(sa.insert(table), list(rows.values()))
        return len(rows)

    def read(self, since_seq: int) -> tuple[pl.DataFrame, int]:
        """Items that came after `since_seq` as records.CATALOGUE_COLUMNS, and the number to go on from."""
        with self.state.read() as conn:
            found = [tuple(row) for row in conn.execute(SINCE, {"since": since_seq})]
        if not found:
            return NOTHING.clone(), since_seq
        stored = {name: pl.Int64() if dtype == AT else dtype for name, dtype in CATALOGUE_COLUMNS.items()}
        columns_read = {name: [row[place] for row in found] for place, name in enumerate(COLUMNS, start=1)}
        frame = pl.DataFrame(
            {name: columns_read.get(name, [None] * len(found)) for name in CATALOGUE_COLUMNS}, schema=stored
        )
        return frame.with_columns(pl.col("published_at").cast(AT)), found[-1][0]


def with_posted(catalogue: pl.DataFrame, state: State) -> pl.DataFrame:
    """A dataset's catalogue and, behind it, the posted items that it does not have."""
    posted, _ = PostedItems(state).read(0)
    fresh = posted.filter(~pl.col("item_id").is_in(catalogue["item_id"].implode()))
    return pl.concat([catalogue, fresh]) if len(fresh) else catalogue
