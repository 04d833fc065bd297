"""Limits at the door: size of a body while it streams in, its type, who may call, and what text may hold.

Without tokens the service listens on this machine only (see access). A web page elsewhere could still reach it through
the reader's browser; requiring JSON (which makes a browser ask first, and gets no consent) and a local Host (against
rebinding a name) closes that. On a host that other machines reach, every request needs a token, which a rebound name
does not get from the browser; the Host header is not looked at there.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
"""`testserver` is what Starlette's test client calls itself; no resolver answers to it."""

Refuse = Callable[[Request, int, str, str], Response]
"""Makes the response of (request, status, code, message)."""


def is_local(host: str) -> bool:
    """True where only this machine reaches `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_text(text: str) -> str:
    """Refuse what cannot be stored or sent on: NUL, and halves of surrogate pairs (not encodable as UTF-8)."""
    for place, character in enumerate(text):
        if character == "\0":
            raise ValueError(f"holds a NUL character at position {place}; send plain text")
        if "\ud800" <= character <= "\udfff":
            raise ValueError(
                f"holds half of a surrogate pair at position {place}, which is not UTF-8; send whole characters"
            )
    return text


def _named(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank; give a value")
    return checked_text(text)


Text = Annotated[str, AfterValidator(checked_text)]
Name = Annotated[str, AfterValidator(_named)]


class Door:
    """ASGI middleware: refuses foreign hosts (421), other bodies than JSON (415) and bodies over the limit (413).

    A body is held until complete, at most `max_bytes` of it, so a route never sees a part of one.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, host: str, refuse: Refuse) -> None:
        self.app, self.max_bytes, self.refuse = app, max_bytes, refuse
        self.hosts = LOCAL_NAMES | {host} if is_local(host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] in ("POST", "PUT", "PATCH"):
            body = await self._body(receive)
            if body is None:
                refusal = (413, "body_too_large", f"the body exceeds {self.max_bytes} bytes; send smaller batches")
            else:
                receive = _replay(body, receive)
        if refusal is not None:
            await self.refuse(Request(scope), *refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        name = re.sub(r":\d+$", "", headers.get("host", "")).strip("[]").lower()
        if self.hosts is not None and name not in self.hosts:
            return 421, "foreign_host", f"this service answers to {', '.join(sorted(self.hosts))}, not to {name!a}"
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            found = ascii(kind) if kind else "nothing"
            return 415, "not_json", f"Content-Type is {found}, expected application/json"
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.max_bytes:
            return 413, "body_too_large", f"the body has {length[:20]} bytes, at most {self.max_bytes} are taken"
        return None

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, None as soon as it exceeds the limit."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(parts)
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the held body first."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
