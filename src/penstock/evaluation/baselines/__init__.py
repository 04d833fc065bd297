"""Models to hold every figure against that need no torch: counts, closed forms and one linear model.

A counted baseline (`Baseline`) scores all items from events and the user's history; `Blend` adds several up,
`search` chooses its settings. `SoftmaxRegression` is the learner of the online linear ranker.
"""

from penstock.evaluation.baselines.blend import Blend, Weighting
from penstock.evaluation.baselines.content import FrozenContent
from penstock.evaluation.baselines.cooccurrence import CoOccurrence
from penstock.evaluation.baselines.ease import Ease
from penstock.evaluation.baselines.linear import SoftmaxRegression
from penstock.evaluation.baselines.popularity import DecayedPopularity, NewcomerPopularity, OwnRepeats, Popularity
from penstock.evaluation.baselines.protocol import Baseline, check_events, half_life_seconds, recency_weights

__all__ = [
    "Baseline",
    "Blend",
    "CoOccurrence",
    "DecayedPopularity",
    "Ease",
    "FrozenContent",
    "NewcomerPopularity",
    "OwnRepeats",
    "Popularity",
    "SoftmaxRegression",
    "Weighting",
    "check_events",
    "half_life_seconds",
    "recency_weights",
]
