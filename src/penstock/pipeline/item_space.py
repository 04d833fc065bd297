"""What a window's acts are compared in: the catalogue's categories and texts, and the champion's item vectors."""

from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.drift import ItemSpace

VECTORS, ITEMS = "vectors.safetensors", "items.parquet"


def item_space(catalogue: pl.DataFrame, bundle: Path | None) -> ItemSpace:
    """The items of the catalogue. An item that the bundle does not hold stands at the mean of those it does.

    Args:
        bundle: the champion's folder; None, or one without item vectors: vectors are not compared.
    """
    ids = catalogue["item_id"].to_list()
    chars = catalogue.select(pl.col("title").str.len_chars() + pl.col("body").fill_null("").str.len_chars()).to_series()
    categories = catalogue["category"].fill_null("").to_list()
    chars_N = chars.to_numpy().astype(np.float64)
    if bundle is None or not (bundle / VECTORS).exists():
        return ItemSpace(ids, categories, chars_N, None)
    from safetensors.numpy import load_file

    own_NE = load_file(bundle / VECTORS)["vector"]
    own = {item: row for row, item in enumerate(pl.read_parquet(bundle / ITEMS, columns=["item_id"])["item_id"])}
    vector_NE = np.tile(own_NE.mean(axis=0), (len(ids), 1))
    for row, item in enumerate(ids):
        if item in own:
            vector_NE[row] = own_NE[own[item]]
    return ItemSpace(ids, categories, chars_N, vector_NE)
