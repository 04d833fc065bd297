"""The backtest under its protocol, on a small log of positives with repeats."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from core_bench import small_settings

from penstock.data.dataset import Dataset, DatasetMeta, read_dataset, write_dataset
from penstock.errors import EmptyWindow, SettingsError
from penstock.pipeline.backtest import Backtest
from penstock.pipeline.backtest_run import run_backtest
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
CADENCES = ["2h", "fresh", "never"]


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
    run_backtest(root / "data", root / "out", settings, CADENCES, lambda what, done, total: None)
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
    first, length = stream["at"][0], stream["at"][-1] - stream["at"][0]
    every = {"2h": timedelta(hours=2), "fresh": length / 4, "never": length / 4}
    for name in CADENCES:
        edges = [first + every[name] * n for n in range(round(length / every[name] + 0.5))]
        rankings = pl.read_parquet(out / name / "rankings.parquet")
        assert sorted(rankings["request_id"]) == sorted(requests["request_id"])
        for at, items in requests.join(rankings, on="request_id").select("at", "items").iter_rows():
            began = max(edge for edge in edges if edge <= at.replace(tzinfo=UTC))
            known = set(events.filter(pl.col("at") < began)["item_id"])
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
    for name in CADENCES:
        before = [
            pl.read_parquet(out / "requests.parquet")
            .join(pl.read_parquet(out / name / "rankings.parquet"), on="request_id")
            .join(pl.read_parquet(out / name / "scores.parquet"), on="request_id")
            .filter(pl.col("at") < moment)
            .sort("request_id")
            for out in (plain[1], scrambled)
        ]
        assert len(before[0]) > 60
        assert before[0].equals(before[1])
        recalls = [
            json.loads((out / name / "backtest-track.json").read_text())["recall"] for out in (plain[1], scrambled)
        ]
        numbers = before[0]["request_id"].cast(str).to_list()
        assert [recalls[0].get(number) for number in numbers] == [recalls[1].get(number) for number in numbers]
        assert bool(recalls[0]) == (name == CADENCES[0])


def test_unseen_items_are_ranked_once_they_are_on_offer(plain: tuple[pl.DataFrame, Path]) -> None:
    slices = json.loads((plain[1] / "summary.json").read_text())["slices"]
    unseen, widened = slices["unseen items"]["methods"], slices["unseen items, all on offer"]["methods"]
    assert unseen["fresh"]["requests"] == widened["fresh"]["requests"] > 0
    assert unseen["never"]["recall@100"] == unseen["popularity"]["recall@100"] == 0.0
    assert unseen["2h"]["recall@100"] > 0.0  # seen by then: an update within the protocol's window
    assert set(widened) == set(CADENCES)
    assert widened["fresh"]["recall@100"] == 1.0  # 21 items in all, so every one is among the first hundred


def test_the_summary_weighs_cadences_forgetting_and_sources(plain: tuple[pl.DataFrame, Path]) -> None:
    summary = json.loads((plain[1] / "summary.json").read_text())
    assert summary["cadences"]["order"] == ["never", "fresh", "2h"]
    assert (summary["fresh"], summary["stale"]) == ("2h", "never")
    costs = summary["cadences"]["costs"]
    assert costs["never"]["updates"] == 0 < costs["fresh"]["updates"] == 4
    assert costs["2h"]["learned_requests"] == costs["fresh"]["learned_requests"] == 120
    assert costs["2h"]["updates"] < 15  # eight requests a window: weights move once enough of them wait
    first = {name: one["requests"] for name, one in summary["forgetting"].items()}
    assert first == {"2h": 30, "fresh": 30}
    curve = summary["forgetting"]["fresh"]["curve"]
    assert [row["moment"] for row in curve] == ["before", "after", "learned-2", "end"]
    assert curve[0]["auc"] == summary["forgetting"]["fresh"]["auc_before"]
    assert curve[-1]["auc"] == summary["forgetting"]["fresh"]["auc_end"]
    recall = summary["candidate_recall"]
    assert (recall["requests"], recall["track"]) == (120, "2h")
    assert recall["sources"]["union"]["recall"] >= max(
        recall["sources"][name]["recall"] for name in ("trending", "repeats", "co-occurrence")
    )
    html = (plain[1] / "report.html").read_text()
    for words in ("At which cadence it stops paying", "Who gains and who loses", "Forgetting", "Candidate recall"):
        assert words in html
    assert "http" not in html


@pytest.mark.parametrize(
    ("shown", "words"),
    [(slice(0, 180), "the warm-up's 180 events hold no"), (slice(180, 300), "the stream's 120 events")],
)
def test_a_part_in_which_nothing_led_to_anything(shown: slice, words: str, settings: Settings, tmp_path: Path) -> None:
    events = small_log(tmp_path / "plain", repeats=True)
    kind = np.array(["purchase"] * 300, dtype=object)
    kind[shown] = "impression"
    plain = read_dataset(tmp_path / "plain")
    events = events.with_columns(kind=pl.Series(kind.tolist()))
    meta = DatasetMeta("shown", "rank", True, "impressions", ["purchase", "impression"], "made by hand")
    write_dataset(Dataset(events, plain.catalogue, meta), tmp_path / "data")
    with pytest.raises(EmptyWindow, match=words):
        run_backtest(tmp_path / "data", tmp_path / "out", settings, ["never"], lambda *_: None)


def test_groups_hold_every_event_once_and_no_empty_window(settings: Settings, tmp_path: Path) -> None:
    small_log(tmp_path, repeats=True)
    backtest = Backtest(read_dataset(tmp_path), settings, tmp_path, lambda *_: None)
    for every_s in (None, 60.0, 7200.0, 86400.0, 1e9):
        groups = backtest.groups(every_s)
        windows = [window for group in groups for window in group]
        assert pl.concat([window.events for window in windows]).equals(backtest.stream)
        assert all(len(window.events) for window in windows)
        assert len(groups) <= settings.backtest.windows


def test_a_log_too_short_and_a_cadence_that_is_none(settings: Settings, tmp_path: Path) -> None:
    small_log(tmp_path / "data", repeats=True)
    short = settings.override({"backtest.warmup": 0.001})
    with pytest.raises(EmptyWindow, match="nothing to learn from"):
        run_backtest(tmp_path / "data", tmp_path / "out", short, ["fresh"], lambda *_: None)
    with pytest.raises(SettingsError, match="cadence 'often'"):
        run_backtest(tmp_path / "data", tmp_path / "out", settings, ["often"], lambda *_: None)
