"""At which cadence freshness stops paying, what forgetting costs, who gains and who loses; numbers only, no words.

R requests, F pairs of request and wanted item.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.evaluation.comparison import Bootstrap, RequestMetrics, difference
from penstock.evaluation.outcomes import Outcome, Wanted, gain_of_rank
from penstock.metrics import bootstrap_mean

MOVERS = 8
MOVER_REQUESTS = 5


@dataclass(frozen=True)
class Cost:
    """What one cadence came to.

    Attributes:
        interval_s: seconds of the log between updates; None: it never updates.
        learn_s: seconds of learning and exporting on this machine; score_s: of building features and ranking.
        updates: times the weights moved; learned_requests: requests learned from.
    """

    interval_s: float | None
    learn_s: float
    score_s: float
    updates: int
    learned_requests: int


def slowest_first(costs: Mapping[str, Cost]) -> list[str]:
    """Cadences by their interval, never first."""

    def interval(name: str) -> float:
        every_s = costs[name].interval_s
        return np.inf if every_s is None else every_s

    return sorted(costs, key=interval, reverse=True)


def compare_cadences(
    methods: Mapping[str, RequestMetrics], costs: Mapping[str, Cost], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Each cadence against the next slower one, and the fastest that is worth having.

    The walk starts at the slowest cadence and moves to a faster one only where the interval of their difference lies
    above 0; so two small steps that add up count, and one that may be nothing does not. The intervals are not widened
    for the number of comparisons.

    Returns:
        order: slowest first; steps: neighbours {slower, faster, difference, extra_s}; walk: {held, tried, difference,
        moved}; pays_until: the cadence the walk ends at; costs; against_slowest: each cadence minus the slowest.
    """
    order = slowest_first(costs)
    steps = [
        {
            "slower": slower,
            "faster": faster,
            "difference": difference(methods[faster], methods[slower], bootstrap),
            "extra_s": costs[faster].learn_s - costs[slower].learn_s,
        }
        for slower, faster in itertools.pairwise(order)
    ]
    walk: list[dict[str, Any]] = []
    held = order[0]
    for tried in order[1:]:
        gap = difference(methods[tried], methods[held], bootstrap)
        moved = gap is not None and gap["low"] is not None and gap["low"] > 0
        walk.append({"held": held, "tried": tried, "difference": gap, "moved": moved})
        held = tried if moved else held
    return {
        "order": order,
        "steps": steps,
        "walk": walk,
        "pays_until": held,
        "costs": {name: asdict(costs[name]) for name in order},
        "against_slowest": {name: difference(methods[name], methods[order[0]], bootstrap) for name in order[1:]},
    }


def forgetting(
    user_of: Mapping[int, str], moments: Mapping[str, Mapping[int, float | None]], bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """AUC of the first stream window's requests under the model at three moments, state and candidates the same.

    Args:
        moments: by moment (before: the window was ranked, not learned yet; after: it was just learned; end: the end
            of the stream), the AUC of each request, None where it has none.

    Returns:
        None where no request has an AUC; else requests, auc_<moment>, and end_minus_before and end_minus_after with
        their intervals (low and high None with one user).
    """
    shared = [number for number in moments["before"] if all(one[number] is not None for one in moments.values())]
    if not shared:
        return None
    users = np.array([user_of[number] for number in shared], np.str_)
    auc = {name: np.array([one[number] for number in shared], np.float64) for name, one in moments.items()}
    found: dict[str, Any] = {"requests": len(shared)} | {
        f"auc_{name}": float(auc_R.mean()) for name, auc_R in auc.items()
    }
    for earlier in ("before", "after"):
        gain_R = auc["end"] - auc[earlier]
        enough = len(np.unique(users)) > 1
        interval = bootstrap_mean(gain_R, users, bootstrap.resamples, bootstrap.seed, bootstrap.confidence)[1:]
        low, high = interval if enough else (None, None)
        found[f"end_minus_{earlier}"] = {"auc": float(gain_R.mean()), "low": low, "high": high}
    return found


def forgetting_curve(
    user_of: Mapping[int, str],
    moments: Mapping[str, Mapping[int, float | None]],
    at_s: Mapping[str, float],
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """AUC of the first stream window's requests under the model of each moment of the stream.

    Args:
        moments: as `forgetting`, with as many later moments as there are; at_s: when each was, UTC seconds.

    Returns:
        A row for each moment: moment, at_s, auc, and auc minus that of the first moment with its interval (low and
        high None with one user); none where no request has an AUC.
    """
    order = sorted(at_s, key=lambda name: at_s[name])
    shared = [number for number in moments[order[0]] if all(moments[name][number] is not None for name in order)]
    if not shared:
        return []
    users = np.array([user_of[number] for number in shared], np.str_)
    first_R = np.array([moments[order[0]][number] for number in shared], np.float64)
    rows = []
    for name in order:
        auc_R = np.array([moments[name][number] for number in shared], np.float64)
        spread = (bootstrap.resamples, bootstrap.seed, bootstrap.confidence)
        mean, low, high = bootstrap_mean(auc_R - first_R, users, *spread)
        alone = len(np.unique(users)) < 2
        gap = {"difference": mean, "low": None if alone else low, "high": None if alone else high}
        rows.append({"moment": name, "at_s": at_s[name], "auc": float(auc_R.mean()), **gap})
    return rows


def gains_and_losses(wanted: Wanted, fresh: Outcome, stale: Outcome, titles: Mapping[str, str]) -> dict[str, Any]:
    """Users and items that a fresher model ranked better or worse; counts and examples, no test of chance.

    Returns:
        users: how many gained, lost and stayed by their mean NDCG@10; items_gaining, items_losing: those whose part of
        DCG@10 changed most in all {item, title, requests, gain}, wanted by at least five requests.
    """
    gain_R = wanted.metrics(fresh.rank_F).ndcg_R - wanted.metrics(stale.rank_F).ndcg_R
    _, user_R = np.unique(wanted.user_R, return_inverse=True)
    gain_U = np.bincount(user_R, gain_R)
    users = {"gained": int((gain_U > 1e-12).sum()), "lost": int((gain_U < -1e-12).sum()), "all": len(gain_U)}
    names, item_F = np.unique(wanted.item_F, return_inverse=True)
    moved_N = np.bincount(item_F, gain_of_rank(fresh.rank_F) - gain_of_rank(stale.rank_F))
    count_N = np.bincount(item_F)
    often = np.flatnonzero(count_N >= MOVER_REQUESTS)
    order = often[np.argsort(-moved_N[often], kind="stable")]

    def rows(places: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        items = [str(names[place]) for place in places]
        return [
            {"item": item, "title": titles[item], "requests": int(count_N[place]), "gain": float(moved_N[place])}
            for item, place in zip(items, places.tolist(), strict=True)
        ]

    gaining, losing = order[moved_N[order] > 0][:MOVERS], order[::-1][moved_N[order[::-1]] < 0][:MOVERS]
    return {"users": users, "items_gaining": rows(gaining), "items_losing": rows(losing)}


def recall_of_sources(
    found: Mapping[int, Mapping[str, float]], user_of: Mapping[int, str], sources: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Mean recall of each candidate source over sampled requests, with its interval (None with one user).

    Args:
        found: by request, the recall of each source.
    """
    users = np.array([user_of[number] for number in found], np.str_)
    out: dict[str, Any] = {}
    for source in sources:
        value_R = np.array([found[number][source] for number in found], np.float64)
        if not len(value_R):
            out[source] = {"recall": None, "low": None, "high": None}
            continue
        mean, low, high = bootstrap_mean(value_R, users, bootstrap.resamples, bootstrap.seed, bootstrap.confidence)
        alone = len(np.unique(users)) < 2
        out[source] = {"recall": mean, "low": None if alone else low, "high": None if alone else high}
    return out
