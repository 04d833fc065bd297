"""How far the true mean of paired differences may lie from the measured one, at levels that resampling cannot reach.

A gate that runs 144 times a day has to judge at levels of 0.003 and far below; a bootstrap of 1,000 draws ends at
0.001. So the tail comes from a closed form: the limit of the bootstrap's spread over users, Student's t with as many
degrees of freedom as that spread is worth, and Hall's cubic transformation where the differences lean to the
unfavourable side. What no method can see from a sample is a rare disaster that is not in it; `docs/gates.md` says what
that means, and benchmarks/false_promotions.py what the tail is worth.

R requests, U units that are drawn as wholes (users).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError
from penstock.metrics import Floats

NO_SKEWNESS = 1e-6


@dataclass(frozen=True)
class PairedMean:
    """Mean over requests of paired gains (higher is better), and what its error looks like.

    Attributes:
        error: standard error when whole units are drawn: the limit of the bootstrap's spread.
        skewness: of the units' contributions, never above 0: a lean that favours the challenger earns it nothing.
        freedom: degrees of freedom of the error. A variance of U values with kurtosis k has itself the relative
            variance (k - 1) / U, which is 2 / freedom; never above U - 1.
        units: number of units; with one, nothing can be said.
    """

    mean: float
    error: float
    skewness: float
    freedom: float
    units: int

    @classmethod
    def of(cls, gain_R: Floats, unit_R: npt.NDArray[Any]) -> "PairedMean":
        """From gains and the unit of each.

        Raises:
            GateError: no gains, one that is not finite, or lengths that differ.
        """
        gain_R = np.asarray(gain_R, np.float64)
        if gain_R.shape != np.shape(unit_R) or not gain_R.size or not np.isfinite(gain_R).all():
            raise GateError(
                f"paired mean: gains {gain_R.shape}, {int(np.isfinite(gain_R).sum())} of them finite, units "
                f"{np.shape(unit_R)}; expected one unit for each finite gain"
            )
        _, owner_R = np.unique(unit_R, return_inverse=True)
        mean = float(gain_R.mean())
        part_U = np.bincount(owner_R, gain_R - mean)
        error, skewness, freedom = spread(part_U, len(gain_R))
        return cls(mean, float(error), float(skewness), float(freedom), len(part_U))

    def lower(self, level: float) -> float:
        """The true mean lies below this with a chance of at most `level`, as far as the sample can tell."""
        from scipy.special import stdtrit

        if self.units < 2 or level <= 0:
            return -math.inf
        if self.error == 0:
            return self.mean + math.expm1(math.log(level) / self.units)
        quantile = float(-stdtrit(self.freedom, level))
        return self.mean - self.error * float(unbent(np.array(quantile), np.array(self.skewness), self.units))

    def chance_at(self, bound: float) -> float:
        """p-value of "the true mean is at or below `bound`": 1 where nothing speaks against it."""
        if self.units < 2:
            return 1.0
        if self.error == 0:
            return 1.0 if self.mean <= bound else max(1.0 - (self.mean - bound), 0.0) ** self.units
        ratio = np.array((self.mean - bound) / self.error)
        return float(chance(ratio, np.array(self.skewness), np.array(self.freedom), self.units))


def spread(part_MU: npt.NDArray[Any], requests: int) -> tuple[Floats, Floats, Floats]:
    """Standard error of the mean over requests, the units' skewness, and the error's degrees of freedom.

    Args:
        part_MU: each unit's sum of differences from the mean, along the last axis; their sum is 0.
        requests: how many there are in all.
    """
    units = part_MU.shape[-1]
    square_M = np.mean(np.square(part_MU), axis=-1)
    error_M = np.sqrt(square_M * units * units / max(units - 1, 1)) / requests
    safe_M = np.where(square_M > 0, square_M, 1.0)
    skewness_M = np.minimum(np.mean(part_MU**3, axis=-1) / safe_M**1.5, 0.0)
    kurtosis_M = np.mean(part_MU**4, axis=-1) / safe_M**2
    freedom_M = np.clip(2 * units / np.maximum(kurtosis_M - 1, 1e-9), 1.0, max(units - 1.0, 1.0))
    return error_M, skewness_M, freedom_M


def bent(ratio_M: Floats, skewness_M: Floats, units: int) -> Floats:
    """Hall's transformation of a studentised mean, which takes out its skewness (JRSS B 54, 1992, 221-228).

    With s = ratio / sqrt(units) and g the skewness: sqrt(units) * (((1 + g s / 3)^3 - 1) / g + g / (6 units)).
    """
    root = math.sqrt(units)
    even_M = np.abs(skewness_M) < NO_SKEWNESS
    skewed_M = np.where(even_M, 1.0, skewness_M)
    inner_M = ((1 + skewed_M * ratio_M / root / 3) ** 3 - 1) / skewed_M
    return np.where(even_M, ratio_M, root * (inner_M + skewed_M / (6 * units)))


def unbent(quantile_M: Floats, skewness_M: Floats, units: int) -> Floats:
    """The inverse of `bent`: by how many standard errors the bound lies below the mean."""
    root = math.sqrt(units)
    even_M = np.abs(skewness_M) < NO_SKEWNESS
    skewed_M = np.where(even_M, 1.0, skewness_M)
    inner_M = 1 + skewed_M * (quantile_M / root - skewed_M / (6 * units))
    return np.where(even_M, quantile_M, root * 3 * (np.cbrt(inner_M) - 1) / skewed_M)


def chance(ratio_M: Floats, skewness_M: Floats, freedom_M: Floats, units: int) -> Floats:
    """p-values of studentised means, from Student's t."""
    from scipy.special import stdtr

    return np.asarray(stdtr(freedom_M, -bent(ratio_M, skewness_M, units)), np.float64)
