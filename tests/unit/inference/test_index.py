"""The index against looking at every vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BundleError
from penstock.export.index import nearest_graph
from penstock.inference.index import SPARE, VectorIndex
from penstock.inference.sessions import Session


def clustered(items: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    centre_KE = random.standard_normal((40, width)).astype(np.float32)
    vector_NE = centre_KE[random.integers(0, 40, items)] + 0.4 * random.standard_normal((items, width))
    query_QE = centre_KE[random.integers(0, 40, 30)] + 0.4 * random.standard_normal((30, width))
    return vector_NE.astype(np.float32), query_QE.astype(np.float32)


def exact(vector_NE: np.ndarray, query_E: np.ndarray, count: int) -> list[int]:
    return np.argsort(-(vector_NE @ query_E), kind="stable")[:count].tolist()


def rounded(vector_NE: np.ndarray) -> VectorIndex:
    return VectorIndex(vector_NE, Session(nearest_graph(vector_NE), "cpu", threads=1))


def test_without_a_graph_every_vector_is_looked_at() -> None:
    vector_NE, query_QE = clustered(500)
    index = VectorIndex(vector_NE)
    for query_E in query_QE:
        assert index.nearest(query_E, 20).tolist() == exact(vector_NE, query_E, 20)


def test_rounding_loses_almost_nothing_of_the_best_and_their_order_is_exact() -> None:
    vector_NE, query_QE = clustered(12_000)
    index, found = rounded(vector_NE), 0
    for query_E in query_QE:
        best = index.nearest(query_E, 100)
        found += len(set(best.tolist()) & set(exact(vector_NE, query_E, 100)))
        product_P = vector_NE[best] @ query_E
        assert (np.diff(product_P) <= 1e-4).all()
    assert found >= 0.999 * 100 * len(query_QE)


def test_columns_of_very_different_size_lose_nothing() -> None:
    vector_NE, query_QE = clustered(12_000)
    size_E = np.logspace(-3, 3, 16, dtype=np.float32)
    index = rounded(vector_NE * size_E)
    found = [
        len(set(index.nearest(q, 100).tolist()) & set(exact(vector_NE * size_E, q, 100))) for q in query_QE / size_E
    ]
    assert np.mean(found) >= 99.9


@given(width=st.integers(1, 9), seed=st.integers(0, 10_000), zero=st.booleans())
def test_the_graph_is_the_product_up_to_a_factor_and_the_steps(width: int, seed: int, zero: bool) -> None:
    random = np.random.default_rng(seed)
    vector_NE = random.standard_normal((50, width)).astype(np.float32)
    vector_NE[:, 0] *= 0.0 if zero else 100.0
    query_E = random.standard_normal(width).astype(np.float32)
    score_N = Session(nearest_graph(vector_NE), "cpu").run(query=query_E[None])[0][0].astype(np.float64)
    step_E = np.abs(vector_NE).max(0) / 127
    asked_E = query_E * step_E
    factor = (max(asked_E.max(), 0.0) - min(asked_E.min(), 0.0)) / 255
    # Half a step of each number of the vectors, and half of the query's step for each of up to 127 steps.
    bound = 0.5 * np.abs(asked_E).sum() + 0.51 * factor * 128 * width
    assert np.abs(score_N * factor - vector_NE @ query_E).max() <= bound + 1e-5


@pytest.mark.parametrize("make", [rounded, VectorIndex])
def test_a_new_item_is_found_at_once(make: type[VectorIndex]) -> None:
    vector_NE, query_QE = clustered(3000)
    index = make(vector_NE)
    for number in range(3):
        vector_NE = np.concatenate([vector_NE, 9.0 * query_QE[number][None]])
        index.replace(vector_NE)
    assert [index.nearest(query_QE[number], 2).tolist()[0] for number in range(3)] == [3000, 3001, 3002]
    assert index.nearest(query_QE[2], 2000)[0] == 3002


def test_a_list_as_long_as_the_catalogue_is_exact() -> None:
    vector_NE, query_QE = clustered(1000)
    index, count = rounded(vector_NE), 1000 // SPARE
    assert index.nearest(query_QE[0], count).tolist() == exact(vector_NE, query_QE[0], count)
    assert index.nearest(query_QE[0], 2000).tolist() == exact(vector_NE, query_QE[0], 1000)


def test_a_graph_of_other_items_is_refused() -> None:
    vector_NE, _ = clustered(300)
    with pytest.raises(BundleError, match="of 300 items, the others of 299"):
        VectorIndex(vector_NE[:299], Session(nearest_graph(vector_NE), "cpu"))
