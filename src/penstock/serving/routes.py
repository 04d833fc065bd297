"""The routes under /v1 that answer from the served version and take events in."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response

from penstock.serving import api
from penstock.serving.answer_log import AnswerLog
from penstock.serving.answered import classified
from penstock.serving.answers import Problematic, json_answer, named, request_id
from penstock.serving.event_intake import EventIntake
from penstock.serving.recommender import Recommender, check_k, check_task
from penstock.serving.runtime import Runtime
from penstock.settings import ServiceSettings

FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": api.Failure, "description": text}
    for code, text in (
        (409, "the served version is for the other task"),
        (413, "the body is too large"),
        (422, "the request cannot be used; the error says why"),
        (503, "no version is loaded yet"),
    )
}
EVENT_EXAMPLES: dict[str, Any] = {
    "one": {"summary": "one event", "value": api.EVENT_EXAMPLE},
    "several": {"summary": "a batch", "value": {"events": [api.EVENT_EXAMPLE]}},
}


def v1_routes(runtime: Runtime, answers: AnswerLog, recommender: Recommender, intake: EventIntake) -> APIRouter:
    """Recommendations, events, classifications."""
    router = APIRouter(prefix="/v1", responses=FAILURES)

    @router.post("/recommendations", response_model=api.Recommendations, summary="Best items for a user")
    def recommend(request: Request, body: api.RecommendationRequest) -> Response:
        return recommender.answer_in_thread(request, body)

    @router.post("/events", status_code=202, response_model=api.EventsAccepted, summary="Take in what users did")
    def take_events(request: Request, body: Annotated[api.Events, Body(openapi_examples=EVENT_EXAMPLES)]) -> Response:
        return intake.take(request, body)

    @router.post("/classifications", response_model=api.Classifications, summary="Label texts")
    def classify(request: Request, body: api.ClassificationRequest) -> Response:
        served = runtime.current()
        check_task(served, "classify")
        with served.lock:
            labels = list(served.scorer.labels)
            probability_BK = served.scorer.classify(body.texts).tolist()
        results = [
            {"label": labels[row.index(max(row))], "probabilities": dict(zip(labels, row, strict=True))}
            for row in probability_BK
        ]
        if answers.enabled:
            answers.put(classified(request_id(request), served, body.texts, results, runtime.clock()))
        return json_answer(named(request, served) | {"results": results})

    return router


def lookup_routes(runtime: Runtime, settings: ServiceSettings) -> APIRouter:
    """What the served version knows: similar items, users with a history."""
    router = APIRouter(prefix="/v1", responses=FAILURES)

    @router.get(
        "/items/{item_id}/similar",
        response_model=api.SimilarItems,
        summary="Items close to one",
        responses={404: {"model": api.Failure, "description": "no such item"}},
    )
    def similar(
        request: Request, item_id: Annotated[str, Path(max_length=256)], k: Annotated[int, Query(ge=1)] = 10
    ) -> Response:
        check_k(k, settings)
        served = runtime.current()
        check_task(served, "rank")
        if item_id not in served.scorer.state.row_of:
            runtime.take_up_items()
        with served.lock:
            if item_id not in served.scorer.state.row_of:
                raise Problematic(404, "unknown_item", f"version {served.version} knows no item {item_id!a}")
            near = served.scorer.similar(item_id, k)
            rows = served.scorer.state.row_of
            items = [served.scorer.describe(rows[other]) | {"cosine": cosine} for other, cosine in near]
        return json_answer(named(request, served) | {"item_id": item_id, "items": items})

    @router.get("/users", response_model=api.Users, summary="Some users with a history, to try out")
    def some_users(request: Request, k: Annotated[int, Query(ge=1)] = 20) -> Response:
        check_k(k, settings)
        served = runtime.current()
        check_task(served, "rank")
        with served.lock:
            users = served.scorer.state.histories.users()[-k:]
        return json_answer(named(request, served) | {"users": users[::-1]})

    return router
