"""Baselines on the requests of a backtest: the same windows, candidates and live histories as the model has."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from penstock.errors import SettingsError
from penstock.evaluation.baselines import Baseline, CoOccurrence, DecayedPopularity, OwnRepeats, Popularity
from penstock.evaluation.prequential import DEPTH, RankedRequests
from penstock.features.examples import Asked, walk
from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.backtest import Backtest, Protocol

HALF_LIFE_H = 14 * 24.0
PAIR_HALF_LIFE_H = 40 * 24.0
BASELINES: dict[str, Callable[[int], Baseline]] = {
    Popularity.name: Popularity,
    DecayedPopularity.name: lambda n_items: DecayedPopularity(n_items, HALF_LIFE_H),
    OwnRepeats.name: lambda n_items: OwnRepeats(n_items, HALF_LIFE_H),
    CoOccurrence.name: lambda n_items: CoOccurrence(n_items, PAIR_HALF_LIFE_H),
}
DEFAULT_NAMES = tuple(BASELINES)


def run_baselines(backtest: Backtest, names: Sequence[str]) -> dict[str, RankedRequests]:
    """The backtest's requests ranked by each of the named baselines.

    Raises:
        SettingsError: a name that is none.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise SettingsError(f"baselines: {', '.join(unknown)} unknown, expected some of {', '.join(BASELINES)}")
    return {name: run_baseline(backtest, BASELINES[name](len(backtest.dataset.catalogue))) for name in names}


def run_baseline(backtest: Backtest, baseline: Baseline) -> RankedRequests:
    """Every scored request ranked by one baseline, which counts each window once it was ranked."""
    state = CausalState(FeatureSpec.of(backtest.settings))
    state.add_items(backtest.dataset.catalogue)
    ranked = RankedRequests()
    protocol = Protocol(state, backtest.dataset.meta.repeats)
    protocol.advance(backtest.warm)
    users: dict[str, int] = {}
    _update(baseline, state, backtest.warm, users)
    state.observe_history(state.batch(backtest.warm))
    windows = backtest.windows(None)
    for window in windows:
        if not len(window.events):
            continue
        for asked in walk(state, window.events, backtest.grouped(window.events), "window", count=False):
            found = backtest.scored(asked)
            if found is not None:
                _rank(baseline, state, found, protocol, users, ranked)
        _update(baseline, state, window.events, users)
        protocol.advance(window.events)
        backtest.progress(baseline.name, window.index + 1, len(windows))
    return ranked


def _rank(
    baseline: Baseline,
    state: CausalState,
    found: tuple[int, Asked],
    protocol: Protocol,
    users: dict[str, int],
    ranked: RankedRequests,
) -> None:
    number, asked = found
    shown = [state.row_of[item] for item in asked.request["shown"] if item in state.row_of]
    row_C = np.array(shown, np.int64) if shown else protocol.candidates(asked)
    user = users.setdefault(asked.request["user_id"], len(users))
    score_C = baseline.scores(user, asked.history.row_L, asked.at_s)[row_C]
    best = np.argsort(-score_C, kind="stable")[:DEPTH]
    ranking = [state.items[row_C[place]] for place in best]
    ranked.add(number, asked, ranking, (float("nan"), 0.0, len(row_C)))


def _update(baseline: Baseline, state: CausalState, events: pl.DataFrame, users: dict[str, int]) -> None:
    counted = events.filter(pl.col("kind") != "impression").sort("at", "event_id")
    row_E = np.array([state.row_of.get(item, -1) for item in counted["item_id"].to_list()], np.int64)
    user_E = np.array([users.setdefault(user, len(users)) for user in counted["user_id"].to_list()], np.int64)
    at_s_E = counted["at"].dt.timestamp("us").to_numpy() / 1e6
    known_E = row_E >= 0
    baseline.update(user_E[known_E], row_E[known_E], at_s_E[known_E])
