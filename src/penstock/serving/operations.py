"""The routes for whoever runs the service: health, figures, status, decisions, gate reports."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from penstock.errors import RegistryError
from penstock.records import plain_json
from penstock.registry.approvals import Sight
from penstock.registry.tokens import Caller
from penstock.serving import api
from penstock.serving.access import caller_of, signature
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.runtime import Runtime
from penstock.serving.status import service_status

REPORT_PAGE = "gate-report.html"
DATA_DOCS = "data-docs.html"
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
Number = Annotated[str, Path(pattern=r"^[0-9]{1,9}$", description="version number")]
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": api.Failure, "description": text}
    for code, text in ((404, "no such version"), (409, "the decision does not bind"), (422, "cannot be used"))
}


def health_routes(runtime: Runtime, figures: Callable[[], bytes]) -> APIRouter:
    """For probes and Prometheus."""
    router = APIRouter()

    @router.get("/healthz", response_model=api.Answer, summary="The process answers")
    def healthy(request: Request) -> Response:
        return json_answer(named(request, runtime.served) | {"status": "ok"})

    @router.get(
        "/readyz",
        response_model=api.Answer,
        summary="A version is loaded",
        responses={503: {"model": api.Failure, "description": "none is loaded"}},
    )
    def ready(request: Request) -> Response:
        return json_answer(named(request, runtime.current()) | {"status": "ready"})

    @router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(figures(), media_type=CONTENT_TYPE_LATEST)

    return router


def decision_routes(runtime: Runtime, status_of: Callable[[], dict[str, Any]]) -> APIRouter:
    """Status, and what waits for a person."""
    router = APIRouter()

    @router.get("/v1/status", response_model=api.Answer, summary="The loop at a glance")
    def show_status(request: Request) -> Response:
        content = {"service": service_status(runtime), **status_of()}
        return json_answer(named(request, runtime.served) | {"status": content})

    @router.get("/v1/challengers", response_model=api.Answer, summary="Versions that wait for a decision")
    def show_challengers(request: Request) -> Response:
        waiting = [_described(runtime, version) for version in runtime.registry.challengers()]
        return json_answer(named(request, runtime.served) | {"challengers": waiting})

    @router.post(
        "/v1/challengers/{number}/approve", response_model=api.Answer, summary="Approve, and let it serve",
        responses=FAILURES,
    )  # fmt: skip
    def approve(request: Request, number: Number, decision: api.Decision) -> Response:
        _version(runtime, number)
        runtime.decisions.approve(number, decision.actor, decision.reason, *_made(runtime, request, decision))
        runtime.poll()
        content = {"number": number, "decision": "approved", "serving": runtime.registry.champion_pointer()[0]}
        return json_answer(named(request, runtime.served) | content)

    @router.post(
        "/v1/challengers/{number}/reject", response_model=api.Answer, summary="Reject for good", responses=FAILURES
    )
    def reject(request: Request, number: Number, decision: api.Decision) -> Response:
        _version(runtime, number)
        runtime.decisions.reject(number, decision.actor, decision.reason, *_made(runtime, request, decision))
        return json_answer(named(request, runtime.served) | {"number": number, "decision": "rejected"})

    @router.post("/v1/rollback", response_model=api.Answer, summary="Let an earlier champion serve", responses=FAILURES)
    def roll_back(request: Request, order: api.RollbackOrder) -> Response:
        if order.actor is None:
            signature(request, None)
        if order.to is not None:
            _version(runtime, order.to)
        number = runtime.decisions.rollback(order.to, order.actor, order.reason, runtime.clock(), caller_of(request))
        runtime.poll()
        content = {"number": number, "decision": "rolled back", "serving": runtime.registry.champion_pointer()[0]}
        return json_answer(named(request, runtime.served) | content)

    return router


def report_routes(runtime: Runtime) -> APIRouter:
    """The pages that a version was registered with."""
    router = APIRouter()

    @router.get(
        "/reports/{number}", summary="Gate report of a version", response_class=HTMLResponse, responses=FAILURES
    )
    def report(number: Number) -> Response:
        folder = runtime.registry.report_dir(_version(runtime, number))
        page = None if folder is None else folder / REPORT_PAGE
        if page is None or not page.is_file():
            raise Problematic(
                404, "no_report", f"version {number} has no gate report page; it was registered without one"
            )
        text = page.read_text(encoding="utf-8").replace(f'href="{DATA_DOCS}"', f'href="/reports/{number}/{DATA_DOCS}"')
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    @router.get(
        "/reports/{number}/data-docs.html",
        summary="Data Docs of the snapshot a version learned from",
        response_class=HTMLResponse,
        responses=FAILURES,
    )
    def data_docs(number: Number) -> Response:
        folder = runtime.registry.report_dir(_version(runtime, number))
        page = None if folder is None else folder / DATA_DOCS
        if page is None or not page.is_file():
            raise Problematic(404, "no_data_docs", f"version {number} was registered without Data Docs")
        return HTMLResponse(page.read_text(encoding="utf-8"), headers={"Content-Security-Policy": REPORT_POLICY})

    return router


def _made(runtime: Runtime, request: Request, decision: api.Decision) -> tuple[datetime, Caller | None, Sight]:
    """When, by whose token and on sight of what a decision was made."""
    if decision.actor is None:
        signature(request, None)
    return runtime.clock(), caller_of(request), Sight(decision.seen, decision.nonce)


def _version(runtime: Runtime, number: str) -> Any:
    try:
        return runtime.registry.version(number)
    except RegistryError as error:
        raise Problematic(404, "unknown_version", str(error)) from error


def _described(runtime: Runtime, version: Any) -> dict[str, Any]:
    """A challenger with its gates, so that a person can decide on it."""
    folder = runtime.registry.report_dir(version)
    described: dict[str, Any] = {
        "number": version.number,
        "digest": version.digest,
        "status": version.status,
        "binding": runtime.registry.binding(version),
        "created_at": version.created_at.isoformat(),
        "report": f"/reports/{version.number}" if folder is not None and (folder / REPORT_PAGE).is_file() else None,
        "gates": [],
        "error": None,
    }
    try:
        gates = runtime.registry.gate_report(version)
    except RegistryError as error:
        return described | {"error": str(error)}
    if gates is None:
        return described | {"error": "this version was never measured and cannot be promoted"}
    plain = plain_json(gates.to_json())
    kept = ("gates", "passed", "requests", "users", "snapshot_id", "champion_digest")
    return described | {name: plain[name] for name in kept} | {"not_judged": plain["extra"].get("not_judged", [])}
