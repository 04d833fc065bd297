"""The best possible ranking of a simulated log, to state quality as a share of it."""

from typing import Literal

import polars as pl

from penstock.errors import DataError


def oracle_ndcg(
    requests: pl.DataFrame, truth: pl.DataFrame, k: int = 10, by: Literal["attraction", "probability"] = "attraction"
) -> float:
    """Mean NDCG@k, binary gain, of ranking each request's shown items by their true chances.

    Requests without a relevant or shown item do not count. The ideal DCG counts every relevant item.

    Args:
        requests: records.REQUEST_COLUMNS, as group_requests makes them.
        truth: request_id, item_id, probability, attraction, as simulate makes it.
        k: depth.
        by: "attraction" does not know where an item was shown, as no ranker does; "probability" does.

    Raises:
        DataError: no such request, or a shown item that the truth does not know.
    """
    rows = oracle_scores(requests, truth, k, by)
    return float(rows["ndcg"].to_numpy().mean())


def oracle_scores(
    requests: pl.DataFrame, truth: pl.DataFrame, k: int = 10, by: Literal["attraction", "probability"] = "attraction"
) -> pl.DataFrame:
    """request_id, user_id, ndcg of the oracle for each request that can be scored; arguments as oracle_ndcg."""
    scored = requests.filter((pl.col("relevant").list.len() > 0) & (pl.col("shown").list.len() > 0))
    if scored.is_empty():
        raise DataError(
            f"none of {len(requests)} requests has both shown and relevant items, so there is no oracle; "
            "group a simulated log of impressions"
        )
    shown = scored.select("request_id", item_id="shown").explode("item_id")
    known = shown.join(truth, on=["request_id", "item_id"], how="left", maintain_order="left")
    unknown = known.filter(pl.col(by).is_null())
    if len(unknown):
        raise DataError(
            f"request {unknown['request_id'][0]}, item {unknown['item_id'][0]}: no true chance known "
            f"({len(unknown)} such rows); use the truth.parquet that was written with this dataset"
        )
    relevant = scored.select("request_id", item_id="relevant").explode("item_id").with_columns(hit=pl.lit(True))
    ranked = (
        known.sort("request_id", by, "item_id", descending=[False, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1).over("request_id"))
        .join(relevant, on=["request_id", "item_id"], how="inner")
        .filter(pl.col("rank") <= k)
    )
    dcg = ranked.group_by("request_id").agg(dcg=(1 / (pl.col("rank") + 1).log(2)).sum())
    ideal = pl.sum_horizontal(
        [pl.when(pl.col("n") >= place).then(1 / pl.lit(place + 1.0).log(2)).otherwise(0.0) for place in range(1, k + 1)]
    )
    return (
        scored.select("request_id", "user_id", n=pl.col("relevant").list.len())
        .join(dcg, on="request_id", how="left", maintain_order="left")
        .select("request_id", "user_id", ndcg=pl.col("dcg").fill_null(0.0) / ideal)
    )
