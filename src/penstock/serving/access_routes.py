"""Signing in to the console, and the tokens themselves."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from penstock.errors import AccessError
from penstock.registry.tokens import MAY, Caller, Role, create_token, list_tokens, revoke_token
from penstock.serving import api
from penstock.serving.access import COOKIE, Keyring, caller_of, token_of
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.limits import Name
from penstock.serving.runtime import Runtime

FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": api.Failure, "description": text}
    for code, text in ((401, "no token that is known"), (403, "the token's role may not"), (409, "cannot be done"))
}


class SignIn(api.Strict):
    """A token, to be kept by the browser until it is closed."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class NewToken(api.Strict):
    """Who gets a token, and for what."""

    name: Annotated[Name, Field(max_length=100)]
    role: Role


def session_routes(runtime: Runtime, keyring: Keyring) -> APIRouter:
    """Signing in and out: /v1/session."""
    router = APIRouter(prefix="/v1", responses=FAILURES)

    def session_of(request: Request, required: bool, caller: Caller | None) -> dict[str, Any]:
        may = MAY["admin"] if not required else MAY[caller.role] if caller else frozenset[Any]()
        who = None if caller is None else {"name": caller.name, "role": caller.role}
        return named(request, runtime.served) | {"required": required, "caller": who, "may": sorted(may)}

    @router.get("/session", response_model=api.Answer, summary="Whether a token is needed, and whose came along")
    async def session(request: Request) -> Response:
        keys = await keyring.current()
        return json_answer(session_of(request, keys.required, keys.caller(token_of(request.headers))))

    @router.post("/session", response_model=api.Answer, summary="Sign in: keep a token in a cookie of this browser")
    async def sign_in(request: Request, body: SignIn) -> Response:
        keys = await keyring.current()
        caller = keys.caller(body.token)
        if caller is None:
            raise Problematic(401, "unknown_caller", "this token is not known, or was revoked; ask an admin for one")
        answer = json_answer(session_of(request, keys.required, caller))
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, body.token, httponly=True, samesite="strict", secure=secure)
        return answer

    @router.delete("/session", response_model=api.Answer, summary="Sign out")
    async def sign_out(request: Request) -> Response:
        keys = await keyring.current()
        answer = json_answer(session_of(request, keys.required, None))
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return router


def token_routes(runtime: Runtime) -> APIRouter:
    """/v1/tokens, for admins."""
    router = APIRouter(prefix="/v1", responses=FAILURES)

    @router.get("/tokens", response_model=api.Answer, summary="Every token that was made, without the token")
    def tokens(request: Request) -> Response:
        found = [
            {
                "name": one.name,
                "role": one.role,
                "created_at": one.created_at.isoformat(),
                "created_by": one.created_by,
                "revoked_at": None if one.revoked_at is None else one.revoked_at.isoformat(),
                "revoked_by": one.revoked_by,
            }
            for one in list_tokens(runtime.state)
        ]
        return json_answer(named(request, runtime.served) | {"tokens": found})

    @router.post("/tokens", response_model=api.Answer, status_code=201, summary="Make a token; it is shown once")
    def create(request: Request, body: NewToken) -> Response:
        admin = _admin(request)
        token = create_token(runtime.state, body.name, body.role, admin.name, runtime.clock())
        made = {"token": token, "name": body.name, "role": body.role}
        return json_answer(named(request, runtime.served) | made, 201)

    @router.post(
        "/tokens/{name}/revoke",
        response_model=api.Answer,
        summary="End a token",
        responses={404: {"model": api.Failure, "description": "no such token"}},
    )
    async def revoke(request: Request, name: Annotated[str, Path(max_length=100)]) -> Response:
        admin = _admin(request)
        try:
            await run_in_threadpool(revoke_token, runtime.state, name, admin.name, runtime.clock())
        except AccessError as error:
            raise Problematic(404, "unknown_token", str(error)) from error
        return json_answer(named(request, runtime.served) | {"name": name, "revoked": True})

    return router


def _admin(request: Request) -> Caller:
    """The admin whose token came along; the first token is made where the state database is."""
    caller = caller_of(request)
    if caller is None:
        raise Problematic(409, "no_tokens", "there are no tokens yet; make the first with `penstock token create`")
    return caller
