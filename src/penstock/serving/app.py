"""The HTTP service, put together from its parts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from penstock.inference.scorer import Scorer
from penstock.serving import api
from penstock.serving.access import Guard, Keyring
from penstock.serving.access_routes import session_routes, token_routes
from penstock.serving.answer_log import Answered, AnswerLog
from penstock.serving.answers import install_errors, problem, request_id
from penstock.serving.console_pages import page_routes
from penstock.serving.console_routes import console_data_routes, console_routes
from penstock.serving.decisions import Decisions
from penstock.serving.docs_page import docs_page
from penstock.serving.event_intake import EventIntake
from penstock.serving.explain_routes import explain_routes
from penstock.serving.item_routes import item_routes
from penstock.serving.keeper import Chore, Keeper
from penstock.serving.limits import Door, is_local
from penstock.serving.operations import decision_routes, health_routes, report_routes
from penstock.serving.policy import Policy
from penstock.serving.recommender import Recommender
from penstock.serving.rollout import Rollouts
from penstock.serving.rollout_routes import rollout_routes
from penstock.serving.routes import lookup_routes, v1_routes
from penstock.serving.runtime import Runtime
from penstock.serving.short_way import ShortWay
from penstock.serving.status import status
from penstock.serving.telemetry import Telemetry
from penstock.serving.watch import Watch
from penstock.serving.watch_period import WatchPeriod
from penstock.settings import Settings

ABOUT = "Recommendations and labels from a model that stays minutes old; events in, versions named in every answer."
DROP_EVERY_S, WATCH_EVERY_S, NOTE_EVERY_S = 5.0, 1.0, 1.0


def create_app(runtime: Runtime, settings: Settings) -> FastAPI:
    """The application over a runtime; starting it starts the poller, stopping it stops it."""
    telemetry, rollouts = Telemetry(), Rollouts(runtime, settings)
    answers = AnswerLog(runtime.state, settings)

    def note(_: datetime) -> None:
        telemetry.note(runtime, rollouts, answers.dropped)

    def figures() -> bytes:
        note(runtime.clock())
        return telemetry.expose(runtime, rollouts)

    keeper = Keeper([(NOTE_EVERY_S, note), *_chores(runtime, settings, answers)], runtime.clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        from starlette.concurrency import run_in_threadpool

        await run_in_threadpool(runtime.start)
        keeper.start()
        rollouts.start()
        try:
            yield
        finally:
            await run_in_threadpool(rollouts.stop)
            await run_in_threadpool(runtime.stop)
            await run_in_threadpool(keeper.stop)

    app = FastAPI(title="penstock", version="1", description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.answers, app.state.rollouts = answers, rollouts
    install_errors(app, runtime, partial(_note_fault, runtime, answers))

    def refuse(request: Request, code: int, kind: str, message: str) -> Response:
        telemetry.refused.labels(kind).inc()
        return problem(request, runtime.served, code, kind, message)

    app.add_middleware(Door, settings=settings.service, refuse=refuse)
    keyring = Keyring(runtime.state, wide=not is_local(settings.service.host))
    app.add_middleware(Guard, keyring=keyring, refuse=refuse, clock=runtime.clock)
    app.add_middleware(Watch, telemetry=telemetry)
    app.include_router(session_routes(runtime, keyring))
    app.include_router(token_routes(runtime))
    recommender = Recommender(runtime, settings.service, telemetry, answers, rollouts, Policy.of(settings.policy))
    intake = EventIntake(runtime, settings.service, telemetry)
    app.router.routes[:0] = [
        ShortWay("/v1/recommendations", api.RecommendationRequest, recommender.answer_at_once),
        ShortWay("/v1/events", api.Events, intake.take_in_thread),
    ]
    app.include_router(v1_routes(runtime, answers, recommender, intake))
    app.include_router(lookup_routes(runtime, settings.service))
    app.include_router(rollout_routes(runtime, rollouts))
    app.include_router(explain_routes(runtime))
    app.include_router(item_routes(runtime, settings))
    app.include_router(decision_routes(runtime, partial(_status, runtime, settings)))
    app.include_router(health_routes(runtime, figures))
    app.include_router(report_routes(runtime))
    app.include_router(console_routes(runtime, settings))
    app.include_router(console_data_routes(runtime, settings))
    app.include_router(page_routes())
    _add_docs(app)
    return app


def open_runtime(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Runtime:
    """The runtime of a real service: state database, registry, journal, onnxruntime; `clock` is the present, UTC."""
    from penstock.data.ends import Ends
    from penstock.data.journal import Journal
    from penstock.data.posted_items import PostedItems
    from penstock.data.posted_items import table as posted_items
    from penstock.data.state import events, open_state
    from penstock.registry.audit import Erasures
    from penstock.registry.store import open_registry
    from penstock.registry.tables import audit, promotions

    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    journal = Journal(state, settings.data)
    decisions = Decisions(registry, state)
    posted = PostedItems(state)
    ends = Ends(state, (events.c.seq, posted_items.c.seq, promotions.c.id, audit.c.seq)).read
    erased, poll_s = Erasures(state).last, settings.service.poll_s
    return Runtime(registry, journal, Scorer.load, poll_s, state, decisions, clock, posted, ends, erased)


def _chores(runtime: Runtime, settings: Settings, answers: AnswerLog) -> list[tuple[float, Chore]]:
    if not answers.enabled:
        return []
    chores: list[tuple[float, Chore]] = [
        (settings.service.answers_flush_s, answers.work),
        (DROP_EVERY_S, answers.drop_old),
    ]
    if settings.promotion.watch_minutes > 0:
        watch = WatchPeriod(runtime.registry, runtime.state, settings, runtime.poll)
        chores.append((WATCH_EVERY_S, watch.look))
    return chores


def _note_fault(runtime: Runtime, answers: AnswerLog, request: Request) -> None:
    """A question that the served version failed to answer counts against it in its watch period."""
    served = runtime.served
    if served is not None and request.url.path in ("/v1/recommendations", "/v1/classifications"):
        answers.put(Answered(request_id(request), runtime.clock(), served.version, None, failed=True))


def _status(runtime: Runtime, settings: Settings) -> dict[str, Any]:
    return status(runtime.state, runtime.registry, settings, runtime.clock())


def _add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))
