"""A backtest in sentences, each made from numbers with their intervals; nothing is claimed that an interval holds 0 of.

A gap is what `comparison.difference` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NEAR = 0.05
Gap = Mapping[str, Any]


def gain_sentence(gap: Gap | None, ours: str, theirs: str, confidence: float) -> str:
    """What a difference of NDCG@10 says, in words: better, worse, or not to be told apart."""
    if gap is None:
        return "No request, so nothing can be said."
    relative = "" if gap["relative"] is None else f" ({gap['relative']:+.1%})"
    amount = f"NDCG@10 {gap['ndcg@10']:+.4f}{relative}"
    low, high = gap["low"], gap["high"]
    if low is None or high is None:
        return f"“{ours}” minus “{theirs}”: {amount}, from a single user: without an interval it says little."
    interval = f"{confidence:.0%} interval {low:+.4f} to {high:+.4f} by paired bootstrap over {gap['users']} users"
    if low > 0:
        return f"“{ours}” beats “{theirs}”: {amount}, {interval}."
    if high < 0:
        return f"“{ours}” loses to “{theirs}”: {amount}, {interval}."
    return f"“{ours}” and “{theirs}” cannot be told apart: {amount}, {interval}, which holds 0."


def stands(gap: Gap | None) -> str:
    """better, worse, level (the interval holds 0) or unknown."""
    if gap is None or gap["low"] is None:
        return "unknown"
    if gap["low"] > 0:
        return "better"
    return "worse" if gap["high"] < 0 else "level"


def short(gap: Gap | None) -> str:
    """A difference and its interval in brackets."""
    if gap is None:
        return "not measured"
    if gap["low"] is None:
        return f"{gap['ndcg@10']:+.4f} (one user, no interval)"
    return f"{gap['ndcg@10']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"


def pays_sentences(cadences: Mapping[str, Any]) -> list[str]:
    """At which cadence freshness stops paying, and what each further step would have brought and cost."""
    order, walk, until = cadences["order"], cadences["walk"], cadences["pays_until"]
    if not walk:
        return [f"Only “{order[0]}” was run, so no cadence can be weighed against another."]
    slowest = order[0]
    if until == slowest:
        said = [f"On this log no faster cadence is shown to pay: none beats “{slowest}” with an interval above 0."]
    else:
        gap = cadences["against_slowest"][until]
        said = [f"Freshness is shown to pay up to “{until}”: NDCG@10 {short(gap)} over “{slowest}”."]
        if until == order[-1]:
            said.append("That is the fastest cadence that was run; a faster one may pay too.")
    for step in walk[order.index(until) :]:
        verb = "loses" if stands(step["difference"]) == "worse" else "is not shown to add"
        said.append(
            f"“{step['tried']}” {verb} to “{step['held']}”: {short(step['difference'])}, for "
            f"{_cost(cadences['costs'], step['held'], step['tried'])}."
        )
    return said


def _cost(costs: Mapping[str, Mapping[str, Any]], slower: str, faster: str) -> str:
    before, after = costs[slower]["learn_s"], costs[faster]["learn_s"]
    factor = f" ({after / before:.1f}×)" if before > 0 else ""
    return f"{after:,.1f} s of learning instead of {before:,.1f} s{factor}"


def baseline_sentences(gaps: Mapping[str, Gap | None], fresh: str) -> list[str]:
    """Which baselines the fresh model is ahead of, which are near, and which are ahead of it."""
    by: dict[str, list[str]] = {"better": [], "near": [], "level": [], "worse": [], "unknown": []}
    for name, gap in gaps.items():
        found = stands(gap)
        if found == "better" and gap is not None and gap["relative"] is not None and gap["relative"] < NEAR:
            found = "near"
        by[found].append(f"“{name}” ({short(gap)})")
    heads = {
        "worse": f"Ahead of “{fresh}”: ",
        "level": f"Not to be told apart from “{fresh}”: ",
        "near": f"Beaten, but within {NEAR:.0%}: ",
        "better": f"Beaten by more than {NEAR:.0%}: ",
        "unknown": "Not measured with an interval: ",
    }
    return [f"{head}{', '.join(by[key])}." for key, head in heads.items() if by[key]]


def slice_sentences(gaps: Mapping[str, Gap | None]) -> list[str]:
    """Who gains, who loses, and where nothing is shown; by slice."""
    by: dict[str, list[str]] = {"better": [], "worse": [], "level": [], "unknown": []}
    for name, gap in gaps.items():
        by[stands(gap)].append(name if stands(gap) in ("level", "unknown") else f"{name} ({short(gap)})")
    heads = {
        "better": "Gain from freshness: ",
        "worse": "Lose by it: ",
        "level": "No change is shown, the interval holds 0: ",
        "unknown": "Too few requests or users to say: ",
    }
    said = [f"{head}{', '.join(by[key])}." for key, head in heads.items() if by[key]]
    return said if by["worse"] else [*said, "No slice is shown to lose."]


def forgetting_sentence(name: str, found: Mapping[str, Any], limit: float) -> str:
    """What of the first stream window the final model still knows; `limit` in AUC."""
    parts = []
    gaps = [found["end_minus_before"], found["end_minus_after"]]
    for earlier, gap in zip(("before", "after"), gaps, strict=True):
        words = "when it was fresh" if earlier == "before" else "just after it was learned"
        interval = "" if gap["low"] is None else f" [{100 * gap['low']:+.2f}, {100 * gap['high']:+.2f}]"
        parts.append(f"{100 * gap['auc']:+.2f} points{interval} against {100 * found[f'auc_{earlier}']:.2f} {words}")
    return (
        f"“{name}”: the first stream window's AUC under the final model is {100 * found['auc_end']:.2f}: "
        f"{'; '.join(parts)}. {_forgotten(gaps, limit)} ({found['requests']} requests)."
    )


def _forgotten(gaps: Sequence[Mapping[str, Any]], limit: float) -> str:
    """Whether more than `limit` was lost, as far as the intervals can tell."""
    points = f"{100 * limit:.1f} points that may be lost"
    if any(gap["high"] is not None and gap["high"] < -limit for gap in gaps):
        return f"That is more than the {points}"
    if all(gap["low"] is not None and gap["low"] >= -limit for gap in gaps):
        return f"That is within the {points}"
    on_average = "within" if all(gap["auc"] >= -limit for gap in gaps) else "beyond"
    return f"The mean is {on_average} the {points}, but the intervals are too wide to tell"
