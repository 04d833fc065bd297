"""One recommendation: who asks, which candidates, in which order, and why each stands there."""

from datetime import datetime
from typing import Any

from penstock.errors import DataError
from penstock.features.state import seconds
from penstock.inference.scorer import UserContext
from penstock.serving import api
from penstock.serving.candidates import find_candidates
from penstock.serving.policy import PLAIN, Policy, allowed_items, why
from penstock.serving.served import Served


def recommend_from(
    served: Served, body: api.RecommendationRequest, count: int, now: datetime, policy: Policy = PLAIN
) -> dict[str, Any]:
    """A version's answer, without what names it; the caller holds the lock.

    Raises:
        DataError: the history names an item that this version does not know, or a filter a category that none has.
    """
    scorer, user = served.scorer, user_of(body, now)
    unknown = [event.item_id for event in body.history or [] if event.item_id not in scorer.state.row_of]
    if unknown:
        raise DataError(
            f"history: version {served.version} knows no item {unknown[0]!a} ({len(unknown)} such); leave it out, "
            "or wait for a version that learned it"
        )
    allowed = allowed_items(served, user, now, body.filters, policy.judged(served))
    found = find_candidates(scorer, user, now, max(count, body.k), allowed)
    known = len(scorer.history_of(user)) > 0
    if not len(found):
        return {"known_user": known, "items": []}
    scored = scorer.score(user, found.row_C, now, found.user_E)
    placed = policy.place(served, scored, body.k, seconds(now))
    parts_K = scored.standing_out(placed.place_K)
    items = []
    columns = (placed.place_K, found.row_C[placed.place_K], scored.score_C[placed.place_K], placed.propensity_K)
    places = zip(*(column_K.tolist() for column_K in columns), parts_K, strict=True)
    for place, row, score, propensity, parts in places:
        source = found.source_C[place]
        reasons = why(parts, source, newcomer=not known)
        shown = {"score": score, "source": source, "why": reasons, "features": parts, "propensity": propensity}
        items.append(scorer.describe(row) | shown)
    return {"known_user": known, "items": items}


def user_of(body: api.RecommendationRequest, now: datetime) -> UserContext:
    """Who the request is about: a known user, the history it brings, or nobody."""
    if body.history is None:
        return UserContext(user_id=body.user_id, history=None if body.user_id else (), query=body.query)
    past = tuple((event.item_id, event.kind, event.at or now) for event in body.history)
    return UserContext(history=past, query=body.query)
