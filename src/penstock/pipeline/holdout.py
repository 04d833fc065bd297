"""How good an exported bundle is on events it never saw, beside popularity over the same requests.

Counters and histories move with the events, as in the service; the learned weights stand still.
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.data.requests import group_requests
from penstock.data.simulate import oracle_ndcg
from penstock.errors import EmptyWindow
from penstock.evaluation.prequential import RankedRequests, Ranker, Scoring
from penstock.features.examples import Examples, walk
from penstock.inference.scorer import Scorer
from penstock.metrics import bootstrap_mean, class_log_loss, correct, paired_bootstrap
from penstock.settings import Settings

DECAYED_H = 24.0


class FeatureColumn:
    """Ranks by one feature alone: a popularity baseline with the very counts that the model sees."""

    def __init__(self, column: int) -> None:
        self.column = column

    def scores(self, batch: Examples) -> NDArray[np.float32]:
        """Scores [R, C]."""
        return np.asarray(batch.feature_RCF[:, :, self.column])


def measure_ranking(
    scorer: Scorer, events: pl.DataFrame, begun_before: pl.Series, truth: pl.DataFrame | None, settings: Settings
) -> dict[str, Any]:
    """NDCG@10 with its interval, AUC and log loss (softmax over the candidates, nats) of the bundle and of popularity.

    Args:
        scorer: the bundle, its state as of the last event it learned from; the state moves along.
        events: the holdout, records.EVENT_COLUMNS, by (at, event_id).
        begun_before: ids of requests whose beginning was learned from; what followed them late is not measured.
        truth: true chances where the log is simulated.

    Raises:
        EmptyWindow: no request of the holdout led to anything.
    """
    data = settings.data
    requests = group_requests(events, data.gains, data.positive_rating_min)
    requests = requests.filter(~pl.col("request_id").is_in(begun_before.implode()))
    useful = requests.filter(pl.col("relevant").list.len() > 0)
    if useful.is_empty():
        raise EmptyWindow(
            f"{len(events)} held-out events hold {len(requests)} requests, none of which led to anything; raise "
            "training.holdout_share or bring more data"
        )
    ranked = _rank(scorer, events, useful, settings)
    own, popular = ranked["model"], ranked["popularity"]
    user_R = np.array(own.user)
    bootstrap = (settings.gates.bootstrap_resamples, settings.seed, settings.gates.confidence)
    out: dict[str, Any] = {"requests": len(own.ndcg), "users": len(set(own.user))}
    for name, requests_of in ranked.items():
        _, low, high = bootstrap_mean(requests_of.ndcg, user_R, *bootstrap)
        out[name] = {**_means(requests_of), "ndcg_at_10_low": low, "ndcg_at_10_high": high}
    gain, low, high = paired_bootstrap(own.ndcg, popular.ndcg, user_R, *bootstrap)
    out["ndcg_at_10_over_popularity"] = {"mean": gain, "low": low, "high": high}
    if truth is not None:
        best = oracle_ndcg(useful, truth)
        out["oracle"] = {"ndcg_at_10": best}
        out["share_of_possible"] = out["model"]["ndcg_at_10"] / best
    return out


def measure_classification(scorer: Scorer, events: pl.DataFrame, learned: pl.DataFrame) -> dict[str, Any]:
    """Accuracy and log loss (nats) on held-out labelled texts, beside always naming the commonest label.

    Args:
        events: the holdout; `learned`: the events that were learned from. Both records.EVENT_COLUMNS.

    Raises:
        EmptyWindow: no labelled text is held out.
    """
    kind = (pl.col("kind") == "label") & pl.col("query").is_not_null()
    held, before = events.filter(kind), learned.filter(kind)
    if held.is_empty():
        raise EmptyWindow(f"{len(events)} held-out events hold no labelled text; raise training.holdout_share")
    column = {label: place for place, label in enumerate(scorer.labels)}
    label_B = np.array([column[label] for label in held["item_id"].to_list()], np.int64)
    probability_BK = np.clip(scorer.classify(held["query"].to_list()), 0.0, 1.0)
    count_K = np.bincount([column[label] for label in before["item_id"].to_list()], minlength=len(column)) + 1.0
    share_BK = np.tile(count_K / count_K.sum(), (len(held), 1))
    out: dict[str, Any] = {"texts": len(held)}
    for name, guess_BK in (("model", probability_BK), ("commonest_label", share_BK)):
        hit_B = correct(guess_BK.argmax(1), label_B)
        out[name] = {"accuracy": float(hit_B.mean()), "log_loss": float(class_log_loss(guess_BK, label_B).mean())}
    return out


def _rank(
    scorer: Scorer, events: pl.DataFrame, requests: pl.DataFrame, settings: Settings
) -> dict[str, RankedRequests]:
    state = scorer.state
    half_lives_h = state.spec.half_lives_h
    day = min(half_lives_h, key=lambda hours: abs(math.log(hours / DECAYED_H)))
    engines: dict[str, Scoring] = {
        "model": scorer.engine,
        "popularity": FeatureColumn(state.spec.names.index(f"popularity_{max(half_lives_h):g}h")),
        f"popularity_{day:g}h": FeatureColumn(state.spec.names.index(f"popularity_{day:g}h")),
    }
    ranked = {name: RankedRequests() for name in engines}
    rankers = [Ranker(state, engines[name], out, lambda asked: state.eligible()) for name, out in ranked.items()]
    for row, asked in enumerate(walk(state, events, requests, settings.features.refresh)):
        for ranker in rankers:
            ranker.ask(row, asked)
    for ranker in rankers:
        ranker.finish()
    return ranked


def _means(ranked: RankedRequests) -> dict[str, float]:
    auc_R = np.array(ranked.auc)
    auc_R = auc_R[np.isfinite(auc_R)]
    return {
        "ndcg_at_10": float(np.mean(ranked.ndcg)),
        "auc": float(auc_R.mean()) if len(auc_R) else math.nan,
        "log_loss": float(np.mean(ranked.log_loss)),
    }
