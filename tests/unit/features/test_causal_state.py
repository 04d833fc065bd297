"""Features: by hand, the same for a batch and for single events, the same after keeping, blind to the future."""

import gc
import math
import weakref
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from core_bench import START, START_S, catalogue, event, positive_requests, random_events, small_settings, table
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BundleError
from penstock.features.examples import Asked, Examples, Refresh, Sampler, build_examples
from penstock.features.state import CausalState, FeatureSpec
from penstock.settings import Settings

ITEMS = 12
HOUR_S = 3600.0


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


def state_of(small: Settings, items: int = ITEMS) -> CausalState:
    state = CausalState(FeatureSpec.of(small))
    state.add_items(catalogue(items))
    return state


def everything(state: CausalState, hours: float) -> np.ndarray:
    """Features of every item for every user."""
    at_s, rows = START_S + hours * HOUR_S, np.arange(len(state.items))
    users = [*sorted(state.histories.users()), "stranger"]
    return np.concatenate([state.features(state.histories.of(user), rows, at_s) for user in users])


@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(deadline=None, max_examples=15)
def test_any_slicing_of_the_stream_gives_the_same_features(seed: int, sizes: list[int]) -> None:
    small = small_settings(Path("unused"))
    events = random_events(seed, 120)
    whole, sliced = state_of(small), state_of(small)
    whole.observe(events)
    start = 0
    for size in [*sizes, len(events)]:
        sliced.observe(events[start : start + size])
        start += size
    np.testing.assert_allclose(everything(whole, 49), everything(sliced, 49), rtol=1e-5, atol=1e-6)


def test_one_by_one_in_the_service_equals_the_batch_in_training(small: Settings) -> None:
    events = random_events(3)
    batch, service = state_of(small), state_of(small)
    batch.observe(events)
    for row in range(len(events)):
        service.observe(events[row : row + 1])
    np.testing.assert_allclose(everything(batch, 50), everything(service, 50), rtol=1e-5, atol=1e-6)
    assert batch.observed_events == service.observed_events == len(events)


def test_features_of_an_item_by_hand(small: Settings) -> None:
    state = state_of(small, 4)
    rows = [event(0, 0.0, item="i1", kind="impression"), event(1, 0.0, item="i2", kind="impression")]
    state.observe(table([*rows, event(2, 0.0, item="i1")]))
    names = state.spec.names
    of = dict(zip(names, state.features(state.histories.of("u1"), np.array([1]), START_S + HOUR_S)[0], strict=True))
    assert of["popularity_1h"] == pytest.approx(math.log((0.5 + 0.1) * 4 / (0.5 + 0.4)), rel=1e-5)
    mean = 0.5 / 1.0
    rate = (0.5 + 20 * mean) / (0.5 + 20)
    assert of["rate_1h"] == pytest.approx(math.log((rate + 1e-4) / (mean + 1e-4)), rel=1e-4)
    assert of["repeat_count"] == pytest.approx(math.log(2))
    assert of["repeat_recency_48h"] == pytest.approx(2 ** (-1 / 48))
    assert of["repeat_share"] == of["category_affinity"] == 1.0
    assert of["history_size"] == pytest.approx(math.log(2))
    assert of["since_last_event"] == pytest.approx(math.log(2))
    assert of["novelty_24h"] == pytest.approx(2 ** (-2 / 24)), "i1 was published one hour before the start"


def test_cooccurrence_by_hand(small: Settings) -> None:
    state = state_of(small)
    state.observe(table([event(0, 0.0, "a", "i1"), event(1, 0.0, "a", "i2"), event(2, 0.0, "b", "i1")]))
    feature = state.features(state.histories.of("b"), np.array([2, 3]), START_S)
    names = list(state.spec.names)
    cosine = 1 / math.sqrt(3) / math.sqrt(2)  # together once; i1 had two events, i2 one; one is added to each count
    for name in ("cooccurrence_cosine", "cooccurrence_long"):
        assert feature[0, names.index(name)] == pytest.approx(math.log1p(100 * cosine), rel=1e-5)
    assert feature[0, names.index("cooccurrence_given_last")] == pytest.approx(math.log1p(100 / 3), rel=1e-5)
    assert feature[1, names.index("cooccurrence_cosine")] == 0.0


def test_what_counts_and_what_does_not(small: Settings) -> None:
    state = state_of(small)
    rows = [
        event(0, 0, kind="impression"), event(1, 0, kind="rating", value=1.0), event(2, 0, kind="rating"),
        event(3, 0, item="nobody knows it"), event(4, 0, kind="rating", value=5.0), event(5, 0, kind="history"),
    ]  # fmt: skip
    state.observe(table(rows))
    assert state.positive.at(START_S, np.array([1]))[0, 0] == pytest.approx(2.0), (
        "the high rating, and the unvalued one"
    )
    assert state.shown.at(START_S, np.array([1]))[0, 0] == 1.0
    assert len(state.histories.of("u1")) == 3, "both of them, and what was had before"
    assert state.observed_events == 5


def test_births_known_seen_and_unknown(small: Settings) -> None:
    state = state_of(small, 5)
    assert state.offered(START_S - 1.5 * HOUR_S).tolist() == [0, 2, 3, 4], "i1 comes an hour later"
    assert 4 not in state.newest.top(START_S + 2 * HOUR_S, 1)
    state.observe(table([event(0, 2.0, item="i4")]))
    assert state.newest.top(START_S + 2 * HOUR_S, 1).tolist() == [4]
    assert state.born_s_N[4] == START_S + 2 * HOUR_S, "an unknown birth is the first event"
    assert state.eligible().tolist() == [4]
    names = state.spec.item_names
    novelty = state.item_features(START_S + 26 * HOUR_S)[:, names.index("novelty_24h")]
    assert novelty[0] == 0.0, "an item that nobody saw is not called new"
    assert novelty[4] == pytest.approx(0.5)


def test_kept_and_restored_to_the_bit(small: Settings, tmp_path: Path) -> None:
    state = state_of(small)
    events = random_events(4)
    state.observe(events[:200])
    state.save(tmp_path / "state")
    other = CausalState.load(tmp_path / "state")
    np.testing.assert_array_equal(everything(state, 40), everything(other, 40))
    for one in (state, other):
        one.add_items(catalogue(ITEMS + 3))
        one.observe(events[200:])
    np.testing.assert_array_equal(everything(state, 50), everything(other, 50))
    assert other.items == state.items
    assert other.spec == state.spec


@pytest.mark.parametrize("name", ["spec.json", "names.json", "counters.safetensors"])
def test_a_state_that_does_not_parse_is_named(small: Settings, tmp_path: Path, name: str) -> None:
    state_of(small).save(tmp_path / "state")
    path = tmp_path / "state" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BundleError, match="cannot be read"):
        CausalState.load(tmp_path / "state")


def scrambled(events: pl.DataFrame, after_hours: float, seed: int) -> pl.DataFrame:
    """The same events up to a moment; from then on other users, items, kinds, values and times."""
    random = np.random.default_rng(seed)
    moment = START + timedelta(hours=after_hours)
    before, after = events.filter(pl.col("at") < moment), events.filter(pl.col("at") >= moment)
    count = len(after)
    changed = after.with_columns(
        user_id=pl.Series([f"u{n}" for n in random.integers(9, size=count)]),
        item_id=pl.Series([f"i{n}" for n in random.integers(ITEMS, size=count)]),
        kind=pl.Series(random.choice(["impression", "click", "purchase"], size=count)),
        at=pl.Series([moment + timedelta(hours=float(h)) for h in random.random(count) * 9]).cast(events["at"].dtype),
    )
    return pl.concat([before, changed.sample(fraction=0.7, seed=seed)]).sort("at", "event_id")


def walked(small: Settings, events: pl.DataFrame, refresh: Refresh, until: float) -> tuple[list[np.ndarray], Examples]:
    """What each request before `until` looks like: features of all items, and the examples."""
    state = state_of(small)
    moment = START_S + until * HOUR_S
    seen: list[np.ndarray] = []

    def probe(asked: Asked) -> None:
        if asked.at_s < moment:
            seen.append(state.features(asked.history, np.arange(ITEMS), asked.at_s, asked.frozen_NF))

    requests = positive_requests(events, small)
    examples = build_examples(state, events, requests, refresh, Sampler(6, 0.5, 1), probe)
    return seen, examples.take(slice(0, len(seen)))


@pytest.mark.parametrize("refresh", ["event", "window"])
@pytest.mark.parametrize("until", [12.0, 30.0])
def test_nothing_before_a_moment_depends_on_what_follows_it(small: Settings, refresh: Refresh, until: float) -> None:
    events = random_events(9)
    seen, examples = walked(small, events, refresh, until)
    assert len(seen) > 20
    for seed in range(3):
        other_seen, other = walked(small, scrambled(events, until, seed), refresh, until)
        np.testing.assert_array_equal(seen, other_seen)
        width = min(examples.row_RC.shape[1], other.row_RC.shape[1])
        for name in ("row_RC", "feature_RCF", "offset_RC", "gain_RC", "mask_RC"):
            np.testing.assert_array_equal(getattr(examples, name)[:, :width], getattr(other, name)[:, :width], name)
        for name in ("past_row_RL", "past_kind_RL", "past_age_RL", "past_mask_RL"):
            np.testing.assert_array_equal(getattr(examples, name), getattr(other, name), name)


def test_a_request_does_not_see_an_event_of_its_own_moment(small: Settings) -> None:
    events = table([event(0, 1.0, "a", "i1"), event(1, 1.0, "a", "i2"), event(2, 2.0, "a", "i1")])
    seen, _ = walked(small, events, "event", 99)
    size = list(state_of(small).spec.names).index("history_size")
    assert [float(features[0, size]) for features in seen] == [0.0, pytest.approx(math.log(3))]


def test_what_follows_what_by_hand(small: Settings) -> None:
    """a had i1, an hour later i2 and i3 at one moment; b had i1: i2 and i3 follow i1, but not one another."""
    state = state_of(small)
    rows = [event(0, 0.0, "a", "i1"), event(1, 1.0, "a", "i2"), event(2, 1.0, "a", "i3"), event(3, 1.0, "b", "i1")]
    state.observe(table(rows))
    at_s = START_S + HOUR_S
    of_b = state.features(state.histories.of("b"), np.array([2, 3, 1]), at_s)
    names = list(state.spec.names)
    decayed = 0.5 ** (1 / state.spec.follows_half_life_h)  # of the count of i1 that a gave an hour ago
    follows = [1.0, 1 / 2, 0.0]  # i3 is the second after i1
    expected = np.log1p([100 * weight / (1 + decayed + 2) for weight in follows])
    np.testing.assert_allclose(of_b[:, names.index("follows")], expected, rtol=1e-5)
    np.testing.assert_allclose(of_b[:, names.index("follows_last")], expected, rtol=1e-5)
    assert of_b[0, names.index("follows_cosine")] == pytest.approx(
        math.log1p(100 / math.sqrt(1 + decayed + 2) / math.sqrt(3)), rel=1e-5
    )


def test_repeats_by_hand(small: Settings) -> None:
    """i1 twice on the first of two occasions, i2 on the second; an hour has passed since."""
    state = state_of(small)
    state.observe(table([event(0, 0.0, "a", "i1"), event(1, 0.0, "a", "i1"), event(2, 1.0, "a", "i2")]))
    feature = state.features(state.histories.of("a"), np.array([1, 2, 3]), START_S + 2 * HOUR_S)
    of = {name: feature[:, column] for column, name in enumerate(state.spec.names)}
    np.testing.assert_allclose(of["repeat_occasions"], np.log1p([10 / 3, 10 / 3, 0]), rtol=1e-5)
    np.testing.assert_allclose(of["repeat_share"], [2 / 3, 1 / 3, 0], rtol=1e-5)
    np.testing.assert_allclose(of["repeat_age"], [math.log(3 / 720), math.log(2 / 720), 0], rtol=1e-5)
    np.testing.assert_allclose(of["repeat_last"], [0, 1, 0])
    halved = 0.5 ** (np.array([2, 1]) / 24)
    np.testing.assert_allclose(of["repeat_sum_24h"], np.log1p([6 * halved[0], 3 * halved[1], 0]), rtol=1e-5)


def test_a_state_goes_with_its_last_user(small: Settings) -> None:
    state = state_of(small)
    state.observe(random_events(1, 50))
    state.trending.top(START_S, 5)
    seen = weakref.ref(state)
    gc.disable()
    try:
        del state
        assert seen() is None, "nothing but the garbage collector would have found it"
    finally:
        gc.enable()
