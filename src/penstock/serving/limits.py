"""Limits at the door: how often and how many at once, size of a body while it streams in, its depth, its type, who may
call, and what text may hold.

Without tokens the service listens on this machine only (see access). A web page elsewhere could still reach it through
the reader's browser; requiring JSON (which makes a browser ask first, and gets no consent) and a local Host (against
rebinding a name) closes that. On a host that other machines reach, every request needs a token, which a rebound name
does not get from the browser; the Host header is not looked at there.
"""

import asyncio
import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import AfterValidator
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.serving.rates import Rates
from penstock.settings import ServiceSettings

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
"""`testserver` is what Starlette's test client calls itself; no resolver answers to it."""

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered whatever the load, or a busy service would be taken for a dead one."""

BUSY_RETRY_S = 1
CALLER = "penstock.caller"
"""Under this name access notes in the scope whose token came along."""

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


@dataclass(frozen=True)
class Refusal:
    """Why a request is turned away. `retry_after_s`: when to come again, None where that would not help."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


class Door:
    """ASGI middleware, in this order: foreign hosts (421), callers beyond their rate (429), more requests at once than
    may be (503), other bodies than JSON (415), bodies over the limit (413) or too slow (408), nested too deep (422).

    A body is held until complete, at most `max_body_bytes` of it, so a route never sees a part of one. 429 and 503
    say in Retry-After when to come again. Probes skip rate and number.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, refuse: Refuse) -> None:
        self.app, self.settings, self.refuse = app, settings, refuse
        self.hosts = LOCAL_NAMES | {settings.host} if is_local(settings.host) else None
        self.rates = Rates(settings.rate_per_s, settings.rate_burst)
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._foreign(scope) or self._too_many(scope)
        if refusal is not None:
            await self._turn_away(refusal, scope, receive, send)
            return
        self.inside += 1
        try:
            await self._let_in(scope, receive, send)
        finally:
            self.inside -= 1

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = self._unfit(scope) or await self._body(receive)
            if isinstance(body, Refusal):
                await self._turn_away(body, scope, receive, send)
                return
            receive = replay({"type": "http.request", "body": body, "more_body": False}, receive)
        await self.app(scope, receive, send)

    async def _turn_away(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        response = self.refuse(Request(scope), refusal.status, refusal.code, refusal.message)
        if refusal.retry_after_s is not None:
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        await response(scope, receive, send)

    def _foreign(self, scope: Scope) -> Refusal | None:
        name = re.sub(r":\d+$", "", Headers(scope=scope).get("host", "")).strip("[]").lower()
        if self.hosts is None or name in self.hosts:
            return None
        known = ", ".join(sorted(self.hosts))
        return Refusal(421, "foreign_host", f"this service answers to {known}, not to {name!a}")

    def _too_many(self, scope: Scope) -> Refusal | None:
        if scope["path"] in PROBES:
            return None
        wait_s = self.rates.wait_s(caller(scope))
        if wait_s > 0:
            limit = f"{self.settings.rate_per_s:g} requests a second, {self.settings.rate_burst} at once"
            return Refusal(429, "too_often", f"more than {limit} (service.rate_per_s)", math.ceil(wait_s))
        if self.inside >= self.settings.max_concurrent:
            message = f"{self.inside} requests are being answered, no more are taken in (service.max_concurrent)"
            return Refusal(503, "busy", message, BUSY_RETRY_S)
        return None

    def _unfit(self, scope: Scope) -> Refusal | None:
        headers, most = Headers(scope=scope), self.settings.max_body_bytes
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            found = ascii(kind) if kind else "nothing"
            return Refusal(415, "not_json", f"Content-Type is {found}, expected application/json")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > most:
            return Refusal(413, "body_too_large", f"the body has {length[:20]} bytes, at most {most} are taken")
        return None

    async def _body(self, receive: Receive) -> bytes | Refusal:
        """The whole body; refused as soon as it exceeds the limit, whatever its Content-Length said."""
        most, parts, size = self.settings.max_body_bytes, list[bytes](), 0
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    part = message.get("body", b"")
                    size += len(part)
                    if size > most:
                        return Refusal(413, "body_too_large", f"the body exceeds {most} bytes; send smaller batches")
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            limit_s = self.settings.body_timeout_s
            return Refusal(408, "body_too_slow", f"the body was not complete after {limit_s:g} s; send it again")
        body = b"".join(parts)
        deepest = self.settings.max_json_depth
        if body.count(b"[") + body.count(b"{") <= deepest:  # cannot be deeper than it has brackets
            return body
        depth = json_depth(body)
        if depth > deepest:
            return Refusal(422, "too_deep", f"the body is nested {depth} deep, at most {deepest} levels are taken")
        return body


def caller(scope: Scope) -> str:
    """Whose rate a request counts for: the name its token stands for (see access), else its address."""
    known = scope.get(CALLER)
    if known is not None:
        return f"token of {known.name}"
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def json_depth(body: bytes) -> int:
    """How deep brackets are nested outside of strings; the parser recurses, this does not.

    A body that is not JSON in UTF-8 may give any depth: the parser refuses it afterwards, whatever this says.
    """
    if body.count(b"[") + body.count(b"{") == 0:
        return 0
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    byte_N = np.frombuffer(b"".join(bare.split(b'"')[::2]), np.uint8)
    opens_N, closes_N = (byte_N == 0x5B) | (byte_N == 0x7B), (byte_N == 0x5D) | (byte_N == 0x7D)
    depth_N = np.cumsum(opens_N.astype(np.int32) - closes_N.astype(np.int32))
    return max(int(depth_N.max()), 0) if len(depth_N) else 0


def replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives `message` first."""
    waiting = [message]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
