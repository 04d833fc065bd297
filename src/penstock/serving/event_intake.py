"""What POST /v1/events does, whichever way the request came in: through the framework, or the short way."""

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from penstock.serving import api
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.runtime import Runtime
from penstock.serving.telemetry import Telemetry
from penstock.settings import ServiceSettings


class EventIntake:
    """Takes events into the journal and the served version, and counts them."""

    def __init__(self, runtime: Runtime, settings: ServiceSettings, telemetry: Telemetry) -> None:
        self.runtime, self.settings, self.telemetry = runtime, settings, telemetry

    def take(self, request: Request, body: api.EventBatch | api.EventIn) -> Response:
        """Accept one event or several; the response says what became of each.

        Raises:
            Problematic: more than may come at once.
            StateError: they cannot be kept; nothing is accepted.
        """
        events = body.events if isinstance(body, api.EventBatch) else [body]
        most = self.settings.max_batch
        if len(events) > most:
            raise Problematic(422, "invalid", f"events: {len(events)} at once, at most {most}; split")
        now = self.runtime.clock()
        result = self.runtime.accept([event.model_dump() | {"at": event.at or now} for event in events])
        rejected = [
            {"index": index, "event_id": event_id, "reason": reason} for index, event_id, reason in result.rejected
        ]
        counts = {"accepted": result.accepted, "duplicate": result.duplicates, "rejected": len(rejected)}
        for outcome, count in counts.items():
            self.telemetry.events.labels(outcome).inc(count)
        content = {"accepted": result.accepted, "duplicates": result.duplicates, "rejected": rejected}
        return json_answer(named(request, self.runtime.served) | content, 202)

    async def take_in_thread(self, request: Request, body: api.EventBatch | api.EventIn) -> Response:
        """As `take`, for the event loop: it goes on while the disk is written."""
        return await run_in_threadpool(self.take, request, body)
