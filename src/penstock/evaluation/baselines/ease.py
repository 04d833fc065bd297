"""EASE: a linear autoencoder in closed form. E events; L history items; N items, S of them seen; U users; P pairs."""

import numpy as np
import numpy.typing as npt

from penstock.errors import DataError, SettingsError
from penstock.evaluation.baselines.protocol import check_events
from penstock.metrics import Floats, Ints


class Ease:
    """Closed-form item-item regression (Steck 2019), refit on everything at the first request of each window.

    Costs one inverse of the items seen so far squared: seconds at 4,000 items, so `max_items` refuses more.
    """

    name = "EASE"

    def __init__(self, n_items: int, l2: float, max_items: int = 20_000) -> None:
        if not l2 > 0:
            raise SettingsError(f"EASE: l2 is {l2}, expected above 0")
        self.l2, self.max_items, self.n_items = l2, max_items, n_items
        self.pairs_UN = np.zeros(0, np.int64)
        self.column_of_N = np.full(n_items, -1)
        self.weight_SS: npt.NDArray[np.float64] | None = None

    def update(self, user_E: Ints, item_E: Ints, at_s_E: Floats) -> None:
        check_events(user_E, item_E, at_s_E, self.n_items)
        self.pairs_UN = np.union1d(self.pairs_UN, user_E.astype(np.int64) * self.n_items + item_E)
        self.weight_SS = None

    def scores(self, user: int, history_L: Ints, at_s: float) -> Floats:
        score_N = np.zeros(self.n_items)
        if self.weight_SS is None:
            self.weight_SS = self._fit()
        column_L = np.unique(self.column_of_N[np.asarray(history_L, np.int64)])
        column_L = column_L[column_L >= 0]
        seen_N = self.column_of_N >= 0
        score_N[seen_N] = self.weight_SS[column_L].sum(axis=0)[self.column_of_N[seen_N]]
        return score_N

    def _fit(self) -> npt.NDArray[np.float64]:
        from scipy.linalg import lapack
        from scipy.sparse import csr_array

        user_P, item_P = np.divmod(self.pairs_UN, self.n_items)
        items_S, column_P = np.unique(item_P, return_inverse=True)
        if len(items_S) > self.max_items:
            raise SettingsError(
                f"EASE: {len(items_S)} items, at most {self.max_items} can be inverted; leave it out or raise max_items"
            )
        self.column_of_N = np.full(self.n_items, -1)
        self.column_of_N[items_S] = np.arange(len(items_S))
        if not len(items_S):
            return np.zeros((0, 0))
        _, row_P = np.unique(user_P, return_inverse=True)
        had_US = csr_array((np.ones(len(row_P)), (row_P, column_P)))
        gram_SS = (had_US.T @ had_US).toarray() + self.l2 * np.eye(len(items_S))
        factor_SS, failed = lapack.dpotrf(gram_SS, lower=1)
        inverse_SS, failed_too = lapack.dpotri(factor_SS, lower=1)
        if failed or failed_too:
            raise DataError(f"EASE: the Gram matrix cannot be inverted (info {failed}, {failed_too}); raise l2")
        inverse_SS = np.tril(inverse_SS) + np.tril(inverse_SS, -1).T
        weight_SS = -inverse_SS / np.diag(inverse_SS)
        np.fill_diagonal(weight_SS, 0.0)
        return np.asarray(weight_SS, np.float64)
