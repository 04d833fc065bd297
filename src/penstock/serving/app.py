"""The HTTP service: put together from its parts, and started."""

import ipaddress
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from penstock.errors import SettingsError
from penstock.inference.scorer import Scorer
from penstock.serving.answers import install_errors, install_watch, problem
from penstock.serving.console_pages import page_routes
from penstock.serving.console_routes import console_routes
from penstock.serving.decisions import Decisions
from penstock.serving.docs_page import docs_page
from penstock.serving.limits import Door
from penstock.serving.operations import decision_routes, health_routes
from penstock.serving.routes import v1_routes
from penstock.serving.runtime import Runtime
from penstock.serving.status import status
from penstock.serving.telemetry import Telemetry
from penstock.settings import Settings

ABOUT = "Recommendations and labels from a model that stays minutes old; events in, versions named in every answer."
log = logging.getLogger(__name__)


def create_app(runtime: Runtime, settings: Settings) -> FastAPI:
    """The application over a runtime; starting it starts the poller, stopping it stops it."""
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        from starlette.concurrency import run_in_threadpool

        await run_in_threadpool(runtime.start)
        try:
            yield
        finally:
            await run_in_threadpool(runtime.stop)

    app = FastAPI(title="penstock", version="1", description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    install_errors(app, runtime)

    def refuse(request: Request, code: int, kind: str, message: str) -> Response:
        telemetry.observe_request("refused", code, 0.0)
        return problem(request, runtime.served, code, kind, message)

    app.add_middleware(Door, max_bytes=settings.service.max_body_bytes, host=settings.service.host, refuse=refuse)
    install_watch(app, telemetry)
    app.include_router(v1_routes(runtime, settings.service, telemetry))
    app.include_router(decision_routes(runtime, partial(_status, runtime, settings)))
    app.include_router(health_routes(runtime, telemetry))
    app.include_router(console_routes(runtime, settings))
    app.include_router(page_routes())
    _add_docs(app)
    return app


def open_runtime(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Runtime:
    """The runtime of a real service: state database, registry, journal, onnxruntime; `clock` is the present, UTC."""
    from penstock.data.journal import Journal
    from penstock.data.state import open_state
    from penstock.registry.store import open_registry

    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    journal = Journal(state, settings.data)
    decisions = Decisions(registry, state)
    return Runtime(registry, journal, Scorer.load, settings.service.poll_s, state, decisions, clock)


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        SettingsError: service.host is reachable from other machines.
    """
    import uvicorn

    check_host(settings.service.host)
    app = create_app(open_runtime(settings), settings)
    log.info("console at http://%s:%d/", settings.service.host, settings.service.port)
    uvicorn.run(
        app, host=settings.service.host, port=settings.service.port, log_level="warning", timeout_graceful_shutdown=10
    )


def check_host(host: str) -> None:
    """Allow loopback only.

    Raises:
        SettingsError: any other address or name.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise SettingsError(
            f"service.host is {host!r}: other machines could reach it, and the service has no tokens yet, so anybody "
            "could approve a version; expected 127.0.0.1, ::1 or localhost; put a proxy that asks who is there in front"
        )


def _status(runtime: Runtime, settings: Settings) -> dict[str, Any]:
    return status(runtime.state, runtime.registry, settings, runtime.clock())


def _add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))
