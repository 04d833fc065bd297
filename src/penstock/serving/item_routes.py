"""New items: durable, encoded and recommendable before the answer leaves."""

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from penstock.serving import api
from penstock.serving.answers import Problematic, json_answer, named
from penstock.serving.runtime import Runtime
from penstock.settings import Settings


def item_routes(runtime: Runtime, settings: Settings) -> APIRouter:
    """POST /v1/items."""
    router = APIRouter(prefix="/v1")

    @router.post("/items", status_code=202, response_model=api.ItemsAccepted, summary="Take new items in")
    def take_items(request: Request, body: api.NewItems) -> Response:
        most, longest = settings.service.max_batch, settings.data.max_text_chars
        if len(body.items) > most:
            raise Problematic(422, "invalid", f"items: {len(body.items)} at once, at most {most}; split")
        for place, item in enumerate(body.items):
            for name, text in (("title", item.title), ("body", item.body or "")):
                if len(text) > longest:
                    message = f"items.{place}.{name}: {len(text)} characters, at most {longest} (data.max_text_chars)"
                    raise Problematic(422, "invalid", message)
        if settings.task != "rank":
            raise Problematic(409, "other_task", "labels are imported, not posted; task is classify")
        if runtime.posted is None:
            raise Problematic(409, "no_catalogue", "this service has no state database to keep items in")
        served = runtime.served
        known = set() if served is None or served.scorer.task != "rank" else served.scorer.state.row_of.keys()
        rows = [
            item.model_dump() | {"attributes": orjson.dumps(item.attributes).decode() if item.attributes else None}
            for item in body.items
            if item.item_id not in known
        ]
        accepted = runtime.take_in(rows) if rows else 0
        content = {"accepted": accepted, "known": len(body.items) - accepted}
        return json_answer(named(request, runtime.served) | content, 202)

    return router
