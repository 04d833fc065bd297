"""The index against looking at every vector."""

import numpy as np
import pytest

import penstock.inference.index as module
from penstock.inference.index import VectorIndex


def clustered(items: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    centre_KE = random.standard_normal((40, width)).astype(np.float32)
    vector_NE = centre_KE[random.integers(0, 40, items)] + 0.4 * random.standard_normal((items, width))
    query_QE = centre_KE[random.integers(0, 40, 30)] + 0.4 * random.standard_normal((30, width))
    return vector_NE.astype(np.float32), query_QE.astype(np.float32)


def exact(vector_NE: np.ndarray, query_E: np.ndarray, count: int) -> list[int]:
    return np.argsort(-(vector_NE @ query_E), kind="stable")[:count].tolist()


def test_a_small_catalogue_is_searched_whole() -> None:
    vector_NE, query_QE = clustered(500)
    index = VectorIndex(vector_NE, query_QE)
    for query_E in query_QE:
        assert index.nearest(query_E, 20).tolist() == exact(vector_NE, query_E, 20)


def test_a_large_one_is_found_nearly_whole_by_scanning_few_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    vector_NE, query_QE = clustered(12_000)
    index = VectorIndex(vector_NE, query_QE[:15])
    assert 0 < index.scanned < index.lists / 2
    found = [len(set(index.nearest(q, 100).tolist()) & set(exact(vector_NE, q, 100))) for q in query_QE[15:]]
    assert np.mean(found) >= 97
    assert index.nearest(query_QE[0], 5).tolist() == exact(vector_NE, query_QE[0], 5)
    assert index.nearest(query_QE[0], 6000).tolist() == exact(vector_NE, query_QE[0], 6000)


@pytest.mark.parametrize("exact_below", [100, 100_000])
def test_a_new_item_is_found_at_once(monkeypatch: pytest.MonkeyPatch, exact_below: int) -> None:
    monkeypatch.setattr(module, "EXACT_BELOW", exact_below)
    vector_NE, query_QE = clustered(3000)
    index = VectorIndex(vector_NE, np.zeros((0, 16), np.float32))
    for number in range(3):
        index.add(9.0 * query_QE[number][None])
    assert [index.nearest(query_QE[number], 2).tolist()[0] for number in range(3)] == [3000, 3001, 3002]
    assert index.nearest(query_QE[2], 2000)[0] == 3002


def test_lists_that_are_not_worth_it_are_dropped_and_all_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    monkeypatch.setattr(module, "WORTH_SHARE", 0.1)
    random = np.random.default_rng(3)
    vector_NE = random.standard_normal((4000, 32)).astype(np.float32)
    query_QE = random.standard_normal((10, 32)).astype(np.float32)
    index = VectorIndex(vector_NE, query_QE)
    assert (index.lists, index.scanned) == (0, 0)
    for query_E in query_QE:
        assert index.nearest(query_E, 50).tolist() == exact(vector_NE, query_E, 50)
