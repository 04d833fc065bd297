"""The console's own routes: what its pages show, as JSON; who may, says access.py."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from penstock.errors import RegistryError, StateError
from penstock.serving import api
from penstock.serving.access import signature
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.console_compare import Comparison, Shelf, compare
from penstock.serving.console_data import DataPage, Settling, data_page, docs_file, settle
from penstock.serving.console_drift import MixKept
from penstock.serving.console_history import History, history_of
from penstock.serving.console_loop import Loop, loop_figures
from penstock.serving.console_versions import VersionDetail, VersionRow, version_detail, version_rows
from penstock.serving.limits import Text
from penstock.serving.operations import Number
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
SnapshotId = Annotated[str, Path(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", description="id of a snapshot")]
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": api.Failure, "description": text}
    for code, text in ((404, "there is no such thing"), (409, "cannot be done now"), (422, "cannot be used"))
}


class LoopAnswer(api.Answer):
    """The first page."""

    loop: Loop


class VersionsAnswer(api.Answer):
    """Every version, newest first."""

    versions: list[VersionRow]


class VersionAnswer(api.Answer):
    """One version."""

    detail: VersionDetail


class DataAnswer(api.Answer):
    """The data's page."""

    data: DataPage


class HistoryAnswer(api.Answer):
    """What happened, newest first."""

    history: History


def console_routes(runtime: Runtime, settings: Settings) -> APIRouter:
    """JSON for the console's pages."""
    router = _router(runtime)
    shelf, answer = Shelf(runtime), partial(_answer, runtime)

    @router.get("/v1/console/loop", response_model=LoopAnswer, summary="Freshness, quality by round, changes")
    def show_loop(request: Request) -> Response:
        return answer(request, loop=loop_figures(runtime.state, runtime.registry, settings, runtime.clock()))

    @router.get("/v1/console/versions", response_model=VersionsAnswer, summary="Every version, newest first")
    def show_versions(request: Request) -> Response:
        return answer(request, versions=version_rows(runtime.registry))

    @router.get("/v1/console/versions/{number}", response_model=VersionAnswer, summary="One version, with its lineage")
    def show_version(request: Request, number: Number) -> Response:
        try:
            detail = version_detail(runtime.state, runtime.registry, number)
        except RegistryError as error:
            raise Problematic(404, "unknown_version", str(error)) from error
        return answer(request, detail=detail)

    @router.get(
        "/v1/console/compare",
        response_model=Comparison,
        summary="One user's list from several versions",
        responses={410: {"model": api.Failure, "description": "a version's bundle is not kept any more"}},
    )
    def show_comparison(
        request: Request,
        versions: Annotated[str, Query(pattern=r"^[0-9]{1,9}(,[0-9]{1,9})*$", description="numbers by commas")],
        user_id: Annotated[Text | None, Query(min_length=1, max_length=256)] = None,
        query: Annotated[Text | None, Query(max_length=2_000)] = None,
        k: Annotated[int, Query(ge=1, le=50)] = 10,
        exclude_seen: bool = False,
    ) -> Response:
        user = None if user_id is None else runtime.journal.name_of(user_id)
        body = api.RecommendationRequest(
            user_id=user, query=query or None, k=k, filters=api.Filters(exclude_seen=exclude_seen)
        )
        found = compare(shelf, versions.split(","), body, settings.service.candidates)
        return json_answer(named(request, runtime.served) | found)

    @router.get("/v1/console/history", response_model=HistoryAnswer, summary="Promotions, rollbacks and refusals")
    def show_history(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> Response:
        return answer(request, history=history_of(runtime.state, limit))

    return router


def console_data_routes(runtime: Runtime, settings: Settings) -> APIRouter:
    """The data's page, the Data Docs, and settling what is in quarantine."""
    router, mixes = _router(runtime), MixKept()

    @router.get("/v1/console/data", response_model=DataAnswer, summary="Snapshots, quarantine and drift")
    def show_data(request: Request) -> Response:
        page = data_page(runtime.state, settings)
        ids = [one.snapshot_id for one in page.snapshots]
        page.mix = mixes.of(runtime.state, ids, runtime.served, settings.validation)
        return _answer(runtime, request, data=page)

    @router.post("/v1/quarantine/{how}", response_model=api.Answer, summary="Replay or waive what is in quarantine")
    def settle_entries(request: Request, how: Literal["replay", "waive"], order: Settling) -> Response:
        who = signature(request, order.actor)
        try:
            done = settle(runtime.state, how, order, who, runtime.clock())
        except StateError as error:
            raise Problematic(409, "not_held", str(error)) from error
        return json_answer(named(request, runtime.served) | done)

    @router.get("/data-docs/{snapshot_id}/{name:path}", response_class=HTMLResponse, summary="A page of the Data Docs")
    def show_docs(snapshot_id: SnapshotId, name: str) -> Response:
        page = docs_file(settings, snapshot_id, name)
        if page is None:
            raise Problematic(404, "no_docs", f"no page {name[:100]!a} in the Data Docs of snapshot {snapshot_id}")
        return HTMLResponse(page.read_text(encoding="utf-8"), headers={"Content-Security-Policy": DOCS_POLICY})

    return router


def _router(runtime: Runtime) -> APIRouter:
    """For routes that read the state database."""

    def need_state() -> None:
        if runtime.state is None:
            raise Problematic(503, "not_ready", "this service was started without a state database; set state.url")

    return APIRouter(responses=FAILURES, dependencies=[Depends(need_state)])


def _answer(runtime: Runtime, request: Request, **content: BaseModel | list[Any]) -> Response:
    plain = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else [one.model_dump() for one in value]
        for name, value in content.items()
    }
    return json_answer(named(request, runtime.served) | plain)
