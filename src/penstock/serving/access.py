"""Who may call what over HTTP: a token in the Authorization header, or in the cookie that signing in sets.

Routes are named here and nowhere else; what is not named needs `read` to look at and `administer` for anything else,
so a route that somebody adds is closed until it is listed.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache, partial
from http.cookies import CookieError, SimpleCookie

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.data.state import State
from penstock.errors import AccessError, StateError
from penstock.registry.approvals import note_refusal
from penstock.registry.tokens import MAY, Caller, Keys, Permission, folded, read_keys
from penstock.serving.answers import Problematic
from penstock.serving.limits import CALLER, Refuse

COOKIE = "penstock_token"
REFRESH_S, WAIT_S, FIRST_WAIT_S = 1.0, 0.2, 10.0
NOTED_EVERY_S = 10.0
PUBLIC = re.compile(r"/|/healthz|/readyz|/console/[^/]*|/v1/session")
"""The console's own files hold no data; it asks for a token before it shows any."""

ROUTES: tuple[tuple[str, str, Permission], ...] = (
    ("POST", r"/v1/events", "feed"),
    ("POST", r"/v1/items", "feed"),
    ("POST", r"/v1/(recommendations|classifications)", "ask"),
    ("GET", r"/v1/items/[^/]+/similar", "ask"),
    ("POST", r"/v1/challengers/[^/]+/(approve|reject)", "decide"),
    ("POST", r"/v1/quarantine(/.*)?", "decide"),
    ("GET", r"/v1/tokens", "administer"),
    ("GET", r".*", "read"),
    ("HEAD", r".*", "read"),
)
log = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def permission_for(method: str, path: str) -> Permission | None:
    """What a request needs; None where anybody may."""
    if PUBLIC.fullmatch(path):
        return None
    return next((need for verb, known, need in ROUTES if verb == method and re.fullmatch(known, path)), "administer")


def caller_of(request: Request) -> Caller | None:
    """Whose token came with a request; None where none was needed."""
    found: Caller | None = request.scope.get(CALLER)
    return found


def signature(request: Request, actor: str | None) -> str:
    """The name under which something is decided: the token's, or, where none is needed, the one that was sent.

    Raises:
        Problematic: there is neither.
        AccessError: another name than the token's.
    """
    caller = caller_of(request)
    if caller is None and actor is None:
        raise Problematic(422, "invalid", "actor: a decision needs a name; say who decides, or sign in with a token")
    if caller is not None and actor is not None and folded(actor) != folded(caller.name):
        raise AccessError(f"the token is {caller.name}'s, the decision is signed {actor!r}")
    return caller.name if caller is not None else str(actor)


def token_of(headers: Headers) -> str | None:
    """The token that came along, from the header before the cookie."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    cookie = SimpleCookie()
    try:
        cookie.load(headers.get("cookie", ""))
    except CookieError:
        return None
    return cookie[COOKIE].value if COOKIE in cookie else None


class Keyring:
    """The tokens, read again every second; the last ones known stand in while the state database is away or slow.

    Args:
        state: None for a service without one, as in tests: then nobody needs a token.
        wide: other machines reach the service, so a token is needed even where there is none.
    """

    def __init__(self, state: State | None, wide: bool) -> None:
        self.state, self.wide = state, wide
        self._keys: Keys | None = None if state is not None else Keys(False, {})
        self._read_s = float("-inf")
        self._reading = CapacityLimiter(1)

    async def current(self) -> Keys:
        """The tokens of about a second ago.

        Raises:
            StateError: they were never read, and cannot be.
        """
        if self.state is not None and (self._keys is None or time.monotonic() - self._read_s >= REFRESH_S):
            self._read_s = time.monotonic()  # the others go on with what is known; this one waits for what is new
            try:
                with move_on_after(FIRST_WAIT_S if self._keys is None else WAIT_S):
                    keys = await run_sync(read_keys, self.state, abandon_on_cancel=True, limiter=self._reading)
                    self._keys = Keys(keys.required or self.wide, keys.callers)
            except StateError as error:
                log.warning("the tokens cannot be read, those of before stand: %s", error)
        if self._keys is None:
            raise StateError("the tokens cannot be read, so nobody is let in; see that the state database is there")
        return self._keys


class Guard:
    """ASGI middleware: 401 for who is not known, 403 for who may not; a refused decision is in the audit log."""

    def __init__(self, app: ASGIApp, keyring: Keyring, refuse: Refuse, clock: Callable[[], datetime]) -> None:
        self.app, self.keyring, self.refuse, self.clock = app, keyring, refuse, clock
        self._noted_s, self._unnoted = float("-inf"), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        need = permission_for(scope["method"], scope["path"])
        if need is None:
            await self.app(scope, receive, send)
            return
        try:
            keys = await self.keyring.current()
        except StateError as error:
            await self.refuse(Request(scope), 503, "not_ready", str(error))(scope, receive, send)
            return
        if keys.required:
            caller = keys.caller(token_of(Headers(scope=scope)))
            if caller is None or not caller.may(need):
                await self._turn_away(scope, receive, send, need, caller)
                return
            scope[CALLER] = caller
        await self.app(scope, receive, send)

    async def _turn_away(
        self, scope: Scope, receive: Receive, send: Send, need: Permission, caller: Caller | None
    ) -> None:
        able = " or ".join(role for role, may in MAY.items() if need in may)
        if caller is None:
            status, code = 401, "unknown_caller"
            message = f"this needs a token of role {able}, and none that is known came; send Authorization: Bearer …"
        else:
            status, code = 403, "not_allowed"
            message = f"{caller.name} is {caller.role}; this needs {able}"
        if need in ("decide", "administer") and scope["method"] != "GET":
            await self._note(scope["path"], message, caller)
        answer = self.refuse(Request(scope), status, code, message)
        if status == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="penstock"'
        await answer(scope, receive, send)

    async def _note(self, path: str, message: str, caller: Caller | None) -> None:
        """Into the audit log; of callers that nobody knows at most one in ten seconds, with a count of the others."""
        state, subject = self.keyring.state, ascii(path)[1:-1][:100]
        if caller is None:
            if time.monotonic() - self._noted_s < NOTED_EVERY_S:
                self._unnoted += 1
                return
            self._noted_s, others, self._unnoted = time.monotonic(), self._unnoted, 0
            message += f" ({others} more since the last such entry)" if others else ""
        if state is not None:
            name = "-" if caller is None else caller.name
            error = AccessError(message)
            await run_sync(partial(note_refusal, state, name, "call", subject, error, self.clock()))
