"""The simulated marketplace keeps its promises: seeded, readable, biased as told, and with a known optimum."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penstock.data.dataset import Dataset, read_dataset
from penstock.data.requests import group_requests
from penstock.data.simulate import arrivals, oracle_ndcg, oracle_scores, partial_truth, simulate, simulate_and_write
from penstock.data.simulated.world import make_world
from penstock.errors import DataError, SettingsError
from penstock.settings import SimulateSettings, load_settings

SETTINGS = load_settings(Path(__file__).parents[3] / "params.yaml", {})
SMALL = SimulateSettings(items=120, users=60, days=2, requests_per_day=400, shown=8, item_life_h=24, quality_spread=0.5)
Simulated = tuple[Dataset, pl.DataFrame]


@pytest.fixture(scope="module")
def small() -> Simulated:
    return simulate(SMALL, 7)


@pytest.fixture(scope="module")
def requests(small: Simulated) -> pl.DataFrame:
    return group_requests(small[0].events, SETTINGS.data.gains, SETTINGS.data.positive_rating_min)


def test_the_seed_decides_everything(small: Simulated) -> None:
    again, other = simulate(SMALL, 7), simulate(SMALL, 8)
    assert again[0].events.equals(small[0].events)
    assert again[0].catalogue.equals(small[0].catalogue)
    assert again[1].equals(small[1])
    assert not other[0].events.equals(small[0].events)


def test_the_default_instance_is_small_and_reads_back(tmp_path: Path) -> None:
    written = simulate_and_write(SETTINGS.simulate, SETTINGS.seed, tmp_path / "market")
    assert sum(path.stat().st_size for path in (tmp_path / "market").iterdir()) < 3_000_000
    assert read_dataset(tmp_path / "market", 20_000).events.equals(written.events)
    assert len(pl.read_parquet(tmp_path / "market" / "truth.parquet")) == len(written.events.filter(kind="impression"))


def test_items_are_shown_only_while_on_offer(small: Simulated) -> None:
    events, catalogue = small[0].events, small[0].catalogue
    ends_at = pl.col("attributes").str.json_path_match("$.ends_at").str.to_datetime(time_zone="UTC")
    shown = events.filter(kind="impression").join(
        catalogue.select("item_id", "published_at", ends_at=ends_at), on="item_id"
    )
    assert (shown["at"] >= shown["published_at"]).all()
    assert (shown["at"] <= shown["ends_at"].dt.offset_by("1s")).all()
    first, last = shown["at"].min(), shown["at"].max()
    assert catalogue.filter(pl.col("published_at") > first).height > 20, "items are born during the log"
    assert shown.filter(pl.col("ends_at") < last)["item_id"].n_unique() > 20, "items are retired during the log"


def test_clicks_happen_as_often_as_the_truth_says(small: Simulated) -> None:
    dataset, truth = small
    clicked = dataset.events.filter(kind="click").select("request_id", "item_id", clicked=pl.lit(1))
    rows = truth.join(clicked, on=["request_id", "item_id"], how="left").with_columns(pl.col("clicked").fill_null(0))
    probability = rows["probability"].to_numpy()
    spread = np.sqrt((probability * (1 - probability)).sum())
    assert abs(rows["clicked"].sum() - probability.sum()) < 4 * spread
    assert (truth["probability"] <= truth["attraction"]).all()


def test_positions_bias_clicks_as_the_propensity_says(small: Simulated) -> None:
    dataset, truth = small
    shown = dataset.events.filter(kind="impression").join(truth, on=["request_id", "item_id"])
    assert np.allclose(shown["attraction"] * shown["propensity"], shown["probability"])
    by_position = shown.group_by("position").agg(pl.col("propensity").first()).sort("position")["propensity"]
    assert by_position[0] == 1.0
    assert (np.diff(by_position.to_numpy()) < 0).all()


def test_everything_that_follows_has_a_click_before_it(small: Simulated) -> None:
    events = small[0].events
    click = events.filter(kind="click").select("request_id", "item_id", click_at="at")
    impression = events.filter(kind="impression").select("request_id", "item_id", shown_at="at")
    later = events.filter(pl.col("kind").is_in(["purchase", "rating"]))
    assert len(later) > 50
    joined = later.join(click, on=["request_id", "item_id"], how="left")
    assert (joined["at"] > joined["click_at"]).all()
    assert joined["click_at"].null_count() == 0
    assert (click.join(impression, on=["request_id", "item_id"])["click_at"] > impression["shown_at"].min()).all()
    assert set(later.filter(kind="rating")["value"]) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_about_one_in_a_hundred_is_late_and_one_comes_twice(small: Simulated) -> None:
    events = small[0].events
    delay = events["received_at"] - events["at"]
    assert (delay.dt.total_seconds() >= 0).all()
    assert 0.005 < (delay.dt.total_minutes() >= 5).mean() < 0.02
    stream = arrivals(small[0], 7)
    assert 0.005 < len(stream) / len(events) - 1 < 0.02
    assert stream["received_at"].is_sorted()
    assert stream.unique("event_id", keep="first", maintain_order=True).sort("at", "event_id").equals(events)
    assert stream.equals(arrivals(small[0], 7))


def test_interests_drift() -> None:
    rng = np.random.default_rng(3)
    world = make_world(SETTINGS.simulate, rng)
    users = np.arange(SETTINGS.simulate.users)
    start, hour, end = (world.interest_at(users, np.full(len(users), at)) for at in (0.0, 1.0, 71.0))
    assert (start * hour).sum(1).mean() > 0.97
    assert (start * end).sum(1).mean() < 0.8


def test_titles_tell_the_category_apart(small: Simulated) -> None:
    catalogue = small[0].catalogue
    assert catalogue["title"].n_unique() > 0.95 * len(catalogue)
    assert catalogue["title"].str.len_chars().is_between(8, 140).all()
    assert not catalogue["title"].str.contains(r"[{}]").any()
    texts = [re.findall(r"[a-zé']{3,}", f"{row['title']} {row['body']}".lower()) for row in catalogue.to_dicts()]
    vocabulary = {word: index for index, word in enumerate(sorted({word for text in texts for word in text}))}
    count_IW = np.zeros((len(texts), len(vocabulary)))
    for row, text in enumerate(texts):
        count_IW[row, [vocabulary[word] for word in text]] = 1
    weight_IW = count_IW * np.log(len(texts) / count_IW.sum(0))
    weight_IW /= np.linalg.norm(weight_IW, axis=1, keepdims=True)
    nearest = np.argsort(weight_IW @ weight_IW.T, axis=1)[:, -2]
    category = catalogue["category"].to_numpy()
    assert (category == category[nearest]).mean() > 0.5, "ten categories: chance is a tenth"


def test_the_oracle_beats_what_was_shown_and_chance(small: Simulated, requests: pl.DataFrame) -> None:
    truth = small[1]
    best = oracle_ndcg(requests, truth)
    noise = pl.Series(np.random.default_rng(0).random(len(truth)))
    as_shown = -pl.int_range(pl.len()).over("request_id").cast(pl.Float64)
    assert best > 1.1 * oracle_ndcg(requests, truth.with_columns(attraction=as_shown))
    assert best > 1.25 * oracle_ndcg(requests, truth.with_columns(attraction=noise))
    assert oracle_ndcg(requests, truth, by="probability") >= best - 0.02


def test_oracle_by_hand() -> None:
    requests = pl.DataFrame(
        {
            "request_id": ["r", "s"],
            "user_id": ["u", "u"],
            "shown": [["a", "b", "c"], ["a"]],
            "relevant": [["b", "c"], []],
        },
        schema_overrides={"relevant": pl.List(pl.String)},
    )
    truth = pl.DataFrame({"request_id": ["r"] * 3, "item_id": ["a", "b", "c"], "attraction": [0.3, 0.9, 0.1]})
    # b first, c third: (1 + 1/2) of the ideal (1 + 1/log2 3).
    expected = 1.5 / (1 + 1 / np.log2(3))
    assert oracle_ndcg(requests, truth) == pytest.approx(expected)
    assert oracle_ndcg(requests, truth, k=1) == 1.0
    assert oracle_scores(requests, truth)["request_id"].to_list() == ["r"]
    with pytest.raises(DataError, match="request r, item c: no true chance"):
        oracle_ndcg(requests, truth.head(2))
    with pytest.raises(DataError, match="none of 1 requests"):
        oracle_ndcg(requests.tail(1), truth)


def test_too_few_items_for_the_time_is_said() -> None:
    with pytest.raises(SettingsError, match=r"nothing is on offer .* raise simulate.items"):
        simulate(SMALL.model_copy(update={"items": 10, "days": 40.0, "item_life_h": 2.0}), 7)


def test_an_oracle_that_lacks_a_part_ranks_worse(small: Simulated, requests: pl.DataFrame) -> None:
    whole = oracle_ndcg(requests, small[1])
    for part in ("items", "style"):
        lacking = partial_truth(SMALL, 7, part)
        assert lacking.select("request_id", "item_id").equals(small[1].select("request_id", "item_id"))
        assert oracle_ndcg(requests, lacking) < whole - 0.003
    plain = SMALL.model_copy(update={"quality_spread": 0.0})
    gone = simulate(plain, 7)[1]["attraction"].to_numpy()
    same = partial_truth(plain, 7, "items")["attraction"].to_numpy()
    assert np.mean(np.isclose(gone, same)) > 0.5, "where no burst is on, quality was all that was taken away"
