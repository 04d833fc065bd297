"""Where the rollout stands, for the console and whoever watches."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from penstock.serving import api
from penstock.serving.answers import json_answer, named
from penstock.serving.rollout import Rollouts
from penstock.serving.runtime import Runtime


def rollout_routes(runtime: Runtime, rollouts: Rollouts) -> APIRouter:
    """One route; starting and stopping is for the command line, where a name and a reason are given."""
    router = APIRouter()

    @router.get("/v1/rollout", response_model=api.Answer, summary="The rollout that runs, or the last one, by arm")
    def show_rollout(request: Request) -> Response:
        rollout = rollouts.latest()
        found: dict[str, Any] | None = None
        if rollout is not None:
            found = rollouts.standing(rollout, runtime.clock()).to_json()
            found["shadows_dropped"] = rollouts.counts["shadow", "dropped"]
            found |= rollouts.settings.model_dump(include={"confidence", "click_window_s", "min_requests"})
        return json_answer(named(request, runtime.served) | {"rollout": found, "error": rollouts.error})

    return router
