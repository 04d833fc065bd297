"""What is kept of an answer: what was shown and on what grounds, as names, not as rows of one version's tables."""

from datetime import datetime
from typing import Any

from penstock.inference.scorer import UserContext
from penstock.serving import api
from penstock.serving.answer_log import Answered
from penstock.serving.served import Served

SHOWN_CHARS = 200


def recommended(
    request_id: str,
    served: Served,
    user: UserContext,
    body: api.RecommendationRequest,
    answer: dict[str, Any],
    now: datetime,
) -> Answered:
    """A recommendation; the caller holds the lock of `served`, so that the past is the one that was ranked by."""
    scorer = served.scorer
    state, given = scorer.state, user.history is not None
    past = scorer.history_of(user) if given else scorer.history_of(user).last(state.spec.history_length)
    rows, kinds, times = past.row_L.tolist(), past.kind_L.tolist(), past.at_s_L.tolist()
    kept: dict[str, Any] = {
        "digest": served.digest,
        "k": body.k,
        "query": body.query,
        "filters": body.filters.model_dump(),
        "given": given,
        "past": [
            [state.items[row], state.spec.kinds[kind], at_s] for row, kind, at_s in zip(rows, kinds, times, strict=True)
        ],
        "items": [[item["item_id"], item["score"], item["source"], item["propensity"]] for item in answer["items"]],
        "loaded_seq": served.loaded_seq,
        "seq": served.seq,
    }
    return Answered(request_id, now, served.version, user.user_id, body=kept)


def classified(
    request_id: str, served: Served, texts: list[str], results: list[dict[str, Any]], now: datetime
) -> Answered:
    """Labels of texts; of a text its beginning."""
    labels = [[text[:SHOWN_CHARS], result["label"]] for text, result in zip(texts, results, strict=True)]
    return Answered(request_id, now, served.version, None, body={"digest": served.digest, "labels": labels})
