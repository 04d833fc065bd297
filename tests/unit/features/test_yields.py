import numpy as np
import pytest

from penstock.features.yields import BUCKETS, Yields


def test_rates_are_what_was_found_at_a_rank() -> None:
    yields = Yields()
    rows = np.arange(100)
    for number in range(4000):
        yields.observe({"good": rows, "poor": rows}, [0] if number % 2 else [])
    good = yields.rates("good", 100)
    assert good[0] == pytest.approx(0.5, abs=0.01)
    assert good[50] < 0.001
    assert (np.diff(good) <= 0).all()
    assert yields.rates("good", 3).tolist() == good[:3].tolist()


def test_before_anything_was_seen_all_sources_are_alike_and_fall_with_the_rank() -> None:
    rates = Yields().rates("any", 200)
    assert rates.tolist() == Yields().rates("other", 200).tolist()
    assert (np.diff(rates) < 0).all()


def test_it_is_kept_and_restored() -> None:
    yields = Yields()
    yields.observe({"a": np.arange(9), "b": np.arange(0)}, [3])
    other = Yields()
    other.restore("yield", yields.arrays("yield"))
    assert other.rates("a", 9).tolist() == yields.rates("a", 9).tolist()
    assert other.place_SB["a"].sum() == pytest.approx(9)
    assert len(other.hit_SB["b"]) == BUCKETS
    other.restore("yield", {})
    assert other.hit_SB == {}
