"""From scored candidates to the list that is shown: diversity, exploration, and the propensity of each placement.

A propensity is the probability, over the service's own dice, that this item would stand at this place for this
request: what an off-policy estimate divides by. 1 where nothing is left to chance.

C candidates, K places, M candidates that exploration reaches, S draws, E width of a vector.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 200


@dataclass(frozen=True)
class Placed:
    """Places [K] among the candidates, best first, and their propensities [K]."""

    place_K: NDArray[np.int64]
    propensity_K: NDArray[np.float64]


def best_first(score_C: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Places of the `k` best, equal ones in order."""
    return np.asarray(np.argsort(-score_C, kind="stable")[:k], np.int64)


def diversified(
    score_C: NDArray[np.floating], unit_CE: NDArray[np.float32], k: int, weight: float
) -> NDArray[np.int64]:
    """Maximal marginal relevance: each place goes to the best score less its likeness to what stands above.

    Scores count in deviations, likeness is a cosine. Carbonell and Goldstein, SIGIR 1998.

    Args:
        weight: of likeness, 0 to 1; 0 gives the order of the scores.
    """
    relevance_C = (1.0 - weight) * (score_C - score_C.mean()) / max(float(score_C.std()), 1e-9)
    likeness_C = np.full(len(score_C), -np.inf)
    chosen: list[int] = []
    for _ in range(min(k, len(score_C))):
        gain_C = relevance_C - weight * np.where(np.isfinite(likeness_C), likeness_C, 0.0)
        gain_C[chosen] = -np.inf
        chosen.append(int(np.argmax(gain_C)))
        likeness_C = np.maximum(likeness_C, unit_CE @ unit_CE[chosen[-1]])
    return np.array(chosen, np.int64)


def epsilon_greedy(
    greedy_K: NDArray[np.int64], reserve_R: NDArray[np.int64], epsilon: float, random: np.random.Generator
) -> Placed:
    """Each place is given away with probability `epsilon`, to one of the reserve, no item twice.

    By symmetry each of the R in reserve stands at a given place with probability epsilon / R, whatever happened above;
    the item that the greedy list has there, with 1 - epsilon. Both are exact.

    Args:
        reserve_R: candidates that the greedy list leaves out; fewer than K of them: nothing is explored.
    """
    if len(reserve_R) < len(greedy_K):
        return Placed(greedy_K, np.ones(len(greedy_K)))
    given_K = random.random(len(greedy_K)) < epsilon
    drawn = random.choice(reserve_R, int(given_K.sum()), replace=False)
    place_K = greedy_K.copy()
    place_K[given_K] = drawn
    return Placed(place_K, np.where(given_K, epsilon / len(reserve_R), 1.0 - epsilon))


def thompson(
    score_M: NDArray[np.floating],
    chosen_M: NDArray[np.float64],
    shown_M: NDArray[np.float64],
    rate: float,
    scale: float,
    k: int,
    random: np.random.Generator,
) -> Placed:
    """Thompson sampling on the items' own click rates: what was shown seldom is drawn widely.

    A candidate's score moves by `scale` times the log-odds of a draw from its rate's posterior, Beta(prior + chosen,
    prior + shown - chosen), less their mean: the head's score stands where the rate is known, and is explored around
    where it is not. Chapelle and Li, NIPS 2011. The propensity is the share of DRAWS further lists of the same
    posterior that have the item at the place, one half added, so it is never 0.

    Args:
        score_M: of the candidates that exploration reaches.
        chosen_M, shown_M: decayed counts of choices and of impressions.
        rate: choices per impression over all items, 0 < rate < 1.
    """
    won_M = chosen_M + rate
    lost_M = np.maximum(shown_M - chosen_M, 0.0) + (1.0 - rate)
    theta_SM = np.clip(random.beta(won_M, lost_M, (DRAWS + 1, len(score_M))), 1e-6, 1 - 1e-6)
    odds_SM = np.log(theta_SM) - np.log1p(-theta_SM)
    value_SM = score_M + scale * (odds_SM - odds_SM.mean(0))
    k = min(k, len(score_M))
    list_SK = np.argsort(-value_SM, axis=1, kind="stable")[:, :k]
    same_K = (list_SK[1:] == list_SK[0]).sum(0)
    return Placed(np.asarray(list_SK[0], np.int64), (same_K + 0.5) / (DRAWS + 1.0))
