"""The items nearest to a user by dot product.

From ROUNDED_FROM items on, a bundle holds the vectors rounded to a byte a number (export.index). One product in whole
numbers finds the best SPARE times as many as are wanted, and these are put in order by their exact products. All items
are looked at, so nothing is fitted, built or tuned when a version is loaded, and a query reads a quarter of the bytes.
Measured beside clusters of which few are scanned: docs/decisions/0022.

N items, E width of a vector, P rows.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.errors import BundleError
from penstock.features.pool import best_rows, good_rows
from penstock.inference.sessions import Session

ROUNDED_FROM = 10_000
SPARE = 3


class VectorIndex:
    """See the module.

    Args:
        vector_NE: float32 item vectors.
        rounded: the graph of the rounded ones, None to look at the vectors themselves.

    Raises:
        BundleError: the graph is of another number of items.
    """

    def __init__(self, vector_NE: NDArray[np.float32], rounded: Session | None = None) -> None:
        self._vector_NE, self._rounded = vector_NE, rounded
        self._indexed = len(vector_NE)
        if rounded is not None:
            found = rounded.run(query=np.zeros((1, vector_NE.shape[1]), np.float32))[0].shape[1]
            if found != self._indexed:
                raise BundleError(f"the rounded vectors are of {found} items, the others of {self._indexed}")

    def replace(self, vector_NE: NDArray[np.float32]) -> None:
        """Take vectors that begin with the known ones; the new ones follow."""
        self._vector_NE = vector_NE

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items with the largest dot product, best first, equal ones by row."""
        if self._rounded is None or SPARE * count > self._indexed // 2:
            return best_rows(self._vector_NE @ vector_E, count)
        score_N = self._rounded.run(query=vector_E[None])[0][0]
        row_P = good_rows(score_N, SPARE * count)
        if len(self._vector_NE) > self._indexed:
            row_P = np.concatenate([row_P, np.arange(self._indexed, len(self._vector_NE))])
        return row_P[best_rows(self._vector_NE.take(row_P, axis=0) @ vector_E, count)]
