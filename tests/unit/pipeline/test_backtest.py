"""The backtest under its protocol, on a small log of positives with repeats."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from core_bench import small_settings

from penstock.data.dataset import Dataset, DatasetMeta, write_dataset
from penstock.errors import EmptyWindow, SettingsError
from penstock.pipeline.backtest_run import run_backtest
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def small_log(folder: Path, repeats: bool, scramble_from: int | None = None) -> pl.DataFrame:
    """300 purchases, one a quarter of an hour, items born as time goes on; the rest reshuffled from one event on."""
    random = np.random.default_rng(3)
    item = [f"i{min(int(random.zipf(1.6)) - 1, 5 + n // 20)}" for n in range(300)]
    user = [f"u{random.integers(25)}" for _ in range(300)]
    if scramble_from is not None:
        order = np.random.default_rng(9).permutation(300 - scramble_from) + scramble_from
        item[scramble_from:] = [item[n] for n in order]
    at = [START + timedelta(minutes=15 * n) for n in range(300)]
    rows = {"event_id": [f"e{n:04d}" for n in range(300)], "user_id": user, "item_id": item, "at": at}
    events = pl.DataFrame(rows).with_columns(kind=pl.lit("purchase"), received_at=pl.col("at"))
    events = events.select(
        (pl.col(name) if name in events.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVENT_COLUMNS.items()
    )
    names = [f"i{n}" for n in range(21)]
    catalogue = pl.DataFrame({"item_id": names, "title": [f"thing number {name}" for name in names]})
    catalogue = catalogue.select(
        (pl.col(name) if name in catalogue.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in CATALOGUE_COLUMNS.items()
    )
    meta = DatasetMeta("small", "rank", repeats, "positives", ["purchase"], "made by hand")
    write_dataset(Dataset(events, catalogue, meta), folder)
    return events


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Settings:
    """Four windows."""
    return small_settings(tmp_path_factory.mktemp("backtest"), tiny_encoder, **{"backtest.windows": 4})


def run(settings: Settings, root: Path, **log: object) -> tuple[pl.DataFrame, Path]:
    events = small_log(root / "data", **log)  # type: ignore[arg-type]
    run_backtest(root / "data", root / "out", settings, ["fresh", "never"], lambda what, done, total: None)
    return events, root / "out"


@pytest.fixture(scope="module")
def plain(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    """The log and its backtest."""
    return run(settings, tmp_path_factory.mktemp("plain"), repeats=True)


def test_requests_and_rankings_fit_one_another_and_the_protocol(plain: tuple[pl.DataFrame, Path]) -> None:
    events, out = plain
    requests = pl.read_parquet(out / "requests.parquet")
    assert requests.schema["at"] == pl.Datetime("us")
    stream = events[180:]
    assert len(requests) == len(stream)
    edges = [stream["at"][0] + (stream["at"][-1] - stream["at"][0]) * n / 4 for n in range(5)]
    for name in ("fresh", "never"):
        rankings = pl.read_parquet(out / name / "rankings.parquet")
        assert sorted(rankings["request_id"]) == sorted(requests["request_id"])
        for at, items in requests.join(rankings, on="request_id").select("at", "items").iter_rows():
            window = max(n for n in range(4) if edges[n] <= at.replace(tzinfo=UTC))
            known = set(events.filter(pl.col("at") < edges[window])["item_id"])
            assert set(items) == known
            assert len(items) == len(known)
    summary = json.loads((out / "summary.json").read_text())
    assert {"fresh", "never", "popularity", "decayed popularity"} <= set(summary["methods"])
    assert (out / "curves.png").exists()
    assert (out / "report.html").exists()


def test_what_a_user_had_is_no_candidate_where_repeats_do_not_count(settings: Settings, tmp_path: Path) -> None:
    events, out = run(settings, tmp_path, repeats=False)
    requests, rankings = pl.read_parquet(out / "requests.parquet"), pl.read_parquet(out / "fresh" / "rankings.parquet")
    for user, at, items in requests.join(rankings, on="request_id").select("user", "at", "items").iter_rows():
        before = events.filter((pl.col("user_id") == user) & (pl.col("at") < at.replace(tzinfo=UTC)))
        assert not set(items) & set(before["item_id"])


def test_no_ranking_sees_what_came_later(plain: tuple[pl.DataFrame, Path], settings: Settings, tmp_path: Path) -> None:
    cut = 250
    events, scrambled = run(settings, tmp_path, repeats=True, scramble_from=cut)
    moment = events["at"][cut].replace(tzinfo=None)
    for name in ("fresh", "never"):
        before = [
            pl.read_parquet(out / "requests.parquet")
            .join(pl.read_parquet(out / name / "rankings.parquet"), on="request_id")
            .filter(pl.col("at") <= moment)
            .sort("request_id")["items"]
            .to_list()
            for out in (plain[1], scrambled)
        ]
        assert len(before[0]) > 60
        assert before[0] == before[1]


def test_a_log_too_short_and_a_cadence_that_is_none(settings: Settings, tmp_path: Path) -> None:
    small_log(tmp_path / "data", repeats=True)
    short = settings.override({"backtest.warmup": 0.001})
    with pytest.raises(EmptyWindow, match="nothing to learn from"):
        run_backtest(tmp_path / "data", tmp_path / "out", short, ["fresh"], lambda *_: None)
    with pytest.raises(SettingsError, match="cadence 'often'"):
        run_backtest(tmp_path / "data", tmp_path / "out", settings, ["often"], lambda *_: None)
