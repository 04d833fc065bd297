"""Exponentially decayed sums that are cheap to add to and to read at any time.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu: "Forward decay", ICDE 2009): an event at time t adds
w * 2**((t - origin) / half_life); the decayed sum at time T is the stored sum times 2**(-(T - origin) / half_life).
Nothing is touched as time passes; the origin moves only when the exponent grows, so adding one event costs O(1)
whatever the number of items.
"""

import numpy as np
from numpy.typing import NDArray

MAX_EXPONENT = 200.0


class DecayedCounts:
    """Sums per row and half-life.

    Args:
        half_lives_s: float64 [H], seconds.
        rows: number of rows N to begin with.
    """

    def __init__(self, half_lives_s: NDArray[np.float64], rows: int = 0) -> None:
        self.half_life_s_H = np.asarray(half_lives_s, np.float64)
        self.origin_s_H = np.zeros(len(self.half_life_s_H))
        self.started = False
        self.sum_NH = np.zeros((rows, len(self.half_life_s_H)))
        self.total_H = np.zeros(len(self.half_life_s_H))  # over all rows, so that reading it does not cost the rows
        self._scale: tuple[float, NDArray[np.float64]] | None = None

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        if rows > len(self.sum_NH):
            self.sum_NH = np.vstack([self.sum_NH, np.zeros((rows - len(self.sum_NH), self.sum_NH.shape[1]))])

    def add(self, row_E: NDArray[np.int64], weight_E: NDArray[np.float64], at_s_E: NDArray[np.float64]) -> None:
        """Add E events; `at_s_E` in seconds since the epoch, in any order."""
        if not len(row_E):
            return
        newest_s, self._scale = float(at_s_E.max()), None
        if not self.started:
            self.origin_s_H[:] = newest_s
            self.started = True
        gap_H = (newest_s - self.origin_s_H) / self.half_life_s_H
        for column in (gap_H > MAX_EXPONENT).nonzero()[0].tolist():
            self.sum_NH[:, column] *= 2.0 ** -gap_H[column]
            self.total_H[column] *= 2.0 ** -gap_H[column]
            self.origin_s_H[column] = newest_s
        exponent_HE = (at_s_E - self.origin_s_H[:, None]) / self.half_life_s_H[:, None]
        increment_HE = weight_E * np.exp2(exponent_HE)
        self.total_H += increment_HE.sum(1)
        if len(row_E) < 64:
            np.add.at(self.sum_NH, row_E, increment_HE.T)
            return
        for column, increment_E in enumerate(increment_HE):
            self.sum_NH[:, column] += np.bincount(row_E, increment_E, minlength=len(self.sum_NH))

    def at(self, at_s: float, row_C: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Decayed sums [C, H] of `row_C` (all rows when None) at `at_s`."""
        picked = self.sum_NH if row_C is None else self.sum_NH.take(row_C, axis=0)
        return picked * self._scale_at(at_s)

    def summed(self, at_s: float, row_C: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """`at` summed over the half-lives, [C], in one pass over the rows."""
        picked = self.sum_NH if row_C is None else self.sum_NH.take(row_C, axis=0)
        return np.asarray(picked @ self._scale_at(at_s))

    def total(self, at_s: float) -> NDArray[np.float64]:
        """Decayed sums over all rows, [H], at `at_s`."""
        return self.total_H * self._scale_at(at_s)

    def _scale_at(self, at_s: float) -> NDArray[np.float64]:
        """What a stored sum is worth at `at_s`, [H]; a request reads several sums at one time."""
        if self._scale is None or self._scale[0] != at_s:
            exponent_H = (self.origin_s_H - at_s) / self.half_life_s_H
            scale_H = np.exp2(np.minimum(exponent_H, MAX_EXPONENT))
            self._scale = (at_s, scale_H if self.started else np.zeros_like(scale_H))
        return self._scale[1]

    def arrays(self, prefix: str) -> dict[str, NDArray[np.float64]]:
        """What must be kept to restore this object."""
        return {
            f"{prefix}.sum": self.sum_NH,
            f"{prefix}.total": self.total_H,
            f"{prefix}.origin": self.origin_s_H,
            f"{prefix}.started": np.array([float(self.started)]),
        }

    def restore(self, prefix: str, arrays: dict[str, NDArray[np.float64]]) -> None:
        """The inverse of `arrays`."""
        self.sum_NH = np.array(arrays[f"{prefix}.sum"])
        self.total_H = np.array(arrays[f"{prefix}.total"])
        self.origin_s_H = np.array(arrays[f"{prefix}.origin"])
        self.started = bool(arrays[f"{prefix}.started"][0])
        self._scale = None
