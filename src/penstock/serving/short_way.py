"""The short way of a plain recommendation: made on the event loop, without the framework in between.

The framework's own way costs more than ranking does: it takes the request apart, resolves dependencies, hands the work
to a thread and waits for it. The short way is a route before the others. What it does not recognise as well-formed and
quick it hands on, body and all, so that every refusal is worded in one place; what it answers, Recommender answers as
for the other way. Nobody is sent to a thread because the version is busy: ranking there would keep it busy for whoever
comes next, and all would end up in threads. Middleware and error handlers stand around both.
"""

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from penstock.serving import api
from penstock.serving.limits import replay
from penstock.serving.recommender import Recommender

TRIED = "penstock.short_way"
"""Set in the scope of a request that was handed on."""


class ShortWay(BaseRoute):
    """A route for POST /v1/recommendations that stands aside the second time."""

    path = "/v1/recommendations"

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether to look at a request."""
        fits = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self.path
        return (Match.FULL, {"route": self}) if fits and TRIED not in scope else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on; the door gives a body as a whole."""
        message = await receive()
        content = message.get("body", b"")
        body = None if message.get("more_body") else parsed(content)
        if body is not None and self.recommender.is_quick(body):
            await self.recommender.until_free()
            response = self.recommender.answer(Request(scope, receive, send), body)
            await response(scope, receive, send)
            return
        scope[TRIED] = True
        await scope["router"](scope, replay(message, receive), send)


def parsed(content: bytes) -> api.RecommendationRequest | None:
    """The request in a body, None where it is not one: the framework says why."""
    try:
        return api.RecommendationRequest.model_validate(orjson.loads(content))
    except (orjson.JSONDecodeError, ValidationError):
        return None
