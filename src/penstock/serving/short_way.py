"""The short way of what a service is asked most: recommendations and events, without the framework in between.

The framework's own way costs more than ranking does: it takes the request apart, resolves dependencies, hands the work
to a thread and waits for it. The short way is a route before the others. What it does not recognise as well-formed and
quick it hands on, body and all, so that every refusal is worded in one place; what it answers is answered by whoever
answers the other way too. No recommendation is sent to a thread because the version is busy: ranking there would keep
it busy for whoever comes next, and all would end up in threads. Middleware and error handlers stand around both.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from penstock.serving.limits import replay

TRIED = "penstock.short_way"
"""Set in the scope of a request that was handed on."""

Answering = Callable[[Request, Any], Awaitable[Response | None]]
"""The response to a body that is well-formed, None where it takes too long for the event loop."""


class ShortWay(BaseRoute):
    """A route for POSTs to one path that stands aside the second time.

    Args:
        body: the type that a body must be of.
    """

    def __init__(self, path: str, body: Any, answering: Answering) -> None:
        self.path, self.answering = path, answering
        self._body: TypeAdapter[Any] = TypeAdapter(body)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether to look at a request."""
        fits = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self.path
        return (Match.FULL, {"route": self}) if fits and TRIED not in scope else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on; the door gives a body as a whole."""
        message = await receive()
        body = None if message.get("more_body") else self._parsed(message.get("body", b""))
        response = None if body is None else await self.answering(Request(scope, receive, send), body)
        if response is not None:
            await response(scope, receive, send)
            return
        scope[TRIED] = True
        await scope["router"](scope, replay(message, receive), send)

    def _parsed(self, content: bytes) -> Any:
        """What is in a body, None where it is not of the type: the framework says why."""
        try:
            return self._body.validate_python(orjson.loads(content))
        except (orjson.JSONDecodeError, ValidationError):
            return None
