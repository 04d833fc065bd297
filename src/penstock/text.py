"""How an item becomes a text: one rule for training, export and service."""

import polars as pl


def item_texts(catalogue: pl.DataFrame) -> list[str]:
    """One text per item: title, then category and body where there are any."""
    parts = catalogue.select(
        pl.concat_str([pl.col("title"), pl.col("category"), pl.col("body")], separator=". ", ignore_nulls=True)
    )
    return parts.to_series().fill_null("").to_list()
