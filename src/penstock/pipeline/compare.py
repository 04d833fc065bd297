"""The champion of the moment beside version 1 left stale, on the same requests, before anybody learns from them.

Both are exported bundles, scored as the service would score them. The champion's counters and histories move with every
event; the stale version's histories move too, while its counters and weights stay what they were when it was exported.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.requests import group_requests
from penstock.data.simulate import oracle_scores
from penstock.errors import EmptyWindow
from penstock.evaluation.prequential import RankedRequests, Ranker
from penstock.features.examples import Refresh, walk
from penstock.inference.scorer import Scorer
from penstock.metrics import paired_bootstrap
from penstock.settings import Settings


@dataclass(frozen=True)
class WindowComparison:
    """NDCG@10 over one window's requests that led to something. `possible`: the oracle's, where the truth is known."""

    label: str
    version: str
    user_R: NDArray[np.str_]
    fresh_R: NDArray[np.float64]
    stale_R: NDArray[np.float64]
    possible: float | None

    @property
    def fresh(self) -> float:
        """Mean of the champion."""
        return float(self.fresh_R.mean())

    @property
    def stale(self) -> float:
        """Mean of the version left stale."""
        return float(self.stale_R.mean())


class Comparison:
    """Follows the stream with two bundles.

    Args:
        stale: folder of the bundle that is left stale; its counters must be those of the stream's beginning.
        catalogue: every item that may be shown; records.CATALOGUE_COLUMNS.
        truth: true chances where the log is simulated.
    """

    def __init__(self, settings: Settings, stale: Path, catalogue: pl.DataFrame, truth: pl.DataFrame | None) -> None:
        self.settings, self.catalogue, self.truth = settings, catalogue, truth
        self._stale = self._load(stale)
        self._fresh = self._load(stale)

    def window(self, label: str, version: str, champion: Path, events: pl.DataFrame) -> WindowComparison:
        """Score the next window's requests; both bundles' states end after its last event.

        Args:
            champion: folder of the bundle that serves now, which has learned from everything before this window, or
                the same folder as last time.
            events: records.EVENT_COLUMNS, the events right after those of the last call.

        Raises:
            EmptyWindow: no request led to anything.
        """
        if champion != self._fresh.bundle.folder:
            self._fresh = self._load(champion)
        data = self.settings.data
        requests = group_requests(events, data.gains, data.positive_rating_min)
        useful = requests.filter(pl.col("relevant").list.len() > 0)
        if useful.is_empty():
            raise EmptyWindow(
                f"{label}: {len(events)} events hold {len(requests)} requests, none of which led to anything; there is "
                "nothing to compare on"
            )
        fresh = _ranked(self._fresh, events, useful, "event")
        stale = _ranked(self._stale, events, useful, "window")
        possible = None
        if self.truth is not None:
            possible = float(oracle_scores(useful, self.truth)["ndcg"].to_numpy().mean())
        return WindowComparison(
            label, version, np.array(fresh.user), np.array(fresh.ndcg), np.array(stale.ndcg), possible
        )

    def skipped(self, events: pl.DataFrame) -> None:
        """Let both see events whose requests are not compared."""
        self._fresh.observe(events)
        state = self._stale.state
        state.observe_history(state.batch(events.sort("at", "event_id")))

    def _load(self, folder: Path) -> Scorer:
        scorer = Scorer.load(folder)
        scorer.add_items(self.catalogue)
        return scorer


def overall(rows: list[WindowComparison], settings: Settings) -> tuple[float, float, float]:
    """Fresh minus stale NDCG@10 over all windows' requests, with the interval of a paired bootstrap over users.

    Raises:
        EmptyWindow: no window was compared.
    """
    if not rows:
        raise EmptyWindow("no round was compared, so there is no table of fresh against stale; run at least one round")
    user_R = np.concatenate([row.user_R for row in rows])
    fresh_R, stale_R = (np.concatenate([getattr(row, name) for row in rows]) for name in ("fresh_R", "stale_R"))
    gates = settings.gates
    return paired_bootstrap(fresh_R, stale_R, user_R, gates.bootstrap_resamples, settings.seed, gates.confidence)


def _ranked(scorer: Scorer, events: pl.DataFrame, requests: pl.DataFrame, refresh: Refresh) -> RankedRequests:
    out = RankedRequests()
    state = scorer.state
    ranker = Ranker(state, scorer.engine, out, lambda asked: state.eligible())
    for row, asked in enumerate(walk(state, events, requests, refresh, count=refresh == "event")):
        ranker.ask(row, asked)
    ranker.finish()
    return out
