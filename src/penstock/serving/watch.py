"""Around every answer: how long it took, and the headers that keep a browser from doing more than asked."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.serving.telemetry import Telemetry

CONSOLE_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = [
    (b"content-security-policy", CONSOLE_POLICY.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
"""Where the answer does not say them itself."""


class Watch:
    """ASGI middleware; plain, because a wrapped response costs a task and a queue for each request."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app, self.telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unmatched")
                self.telemetry.observe_request(route, message["status"], time.perf_counter() - started_s)
                said = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in HEADERS if header[0] not in said)]
            await send(message)

        await self.app(scope, receive, noted)
