"""Why somebody was shown what they were shown, over HTTP."""

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from penstock.errors import DataError
from penstock.records import plain_json
from penstock.serving import api
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.explain import explain
from penstock.serving.runtime import Runtime

FAILURES: dict[int | str, dict[str, Any]] = {
    404: {"model": api.Failure, "description": "no such answer is kept"},
    503: {"model": api.Failure, "description": "another answer's influence is being measured"},
}


def explain_routes(runtime: Runtime) -> APIRouter:
    """/v1/requests/{id}; measuring the influence loads a bundle, so one at a time does."""
    router = APIRouter(prefix="/v1", responses=FAILURES)
    measuring = threading.Lock()

    @router.get("/requests/{asked}", response_model=api.Answer, summary="Everything behind one answer")
    def explained(
        request: Request,
        asked: Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$", description="request_id of the answer")],
        influence: bool = False,
    ) -> Response:
        """`influence`: also score again without each past item and each family of features; takes seconds."""
        if runtime.state is None:
            raise Problematic(404, "unknown_request", "this service keeps no answers")
        if influence and not measuring.acquire(blocking=False):
            raise Problematic(503, "busy", "another answer's influence is being measured; ask again in a moment")
        try:
            told = explain(runtime.state, runtime.registry, asked, influence, runtime.load)
        except DataError as error:
            raise Problematic(404, "unknown_request", str(error)) from error
        finally:
            if influence:
                measuring.release()
        return json_answer(named(request, runtime.served) | {"explanation": plain_json(told)})

    return router
