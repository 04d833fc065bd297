"""Lists of candidates merged, against one entry at a time."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.yields import Yields
from penstock.inference.candidates import FLOOR, merged


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_merging_equals_the_slow_way(seed: int, count: int, seen: bool) -> None:
    random, yields = np.random.default_rng(seed), Yields()
    lists = {name: random.permutation(80)[: random.integers(0, count + 1)] for name in ("a", "b", "c")}
    if seen:
        yields.observe({name: random.permutation(80) for name in lists}, set(random.integers(0, 80, 10).tolist()))
    entries = [
        (-rate, number, rank, name, row)
        for number, (name, row_P) in enumerate(lists.items())
        for rank, (row, rate) in enumerate(zip(row_P.tolist(), yields.rates(name, count).tolist(), strict=False))
    ]
    floor = math.ceil(FLOOR * count)
    kept = {row for _, _, rank, _, row in entries if rank < floor}
    best = {row: (entry, row) for *entry, row in sorted(entries, reverse=True)}
    chosen = sorted(best.values(), key=lambda one: (one[1] not in kept, one[0]))[:count]
    expected = [(row, name) for (_, _, _, name), row in sorted(chosen)]
    found = merged(lists, count, yields)
    assert list(zip(found.row_C.tolist(), found.source_C, strict=True)) == expected
