"""The console's own files: one page, its style and its scripts, as they lie in the package; no build step."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from penstock.serving.answers import Problematic

CONSOLE = Path(__file__).parent / "console"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def console_files() -> dict[str, Path]:
    """By name, what a browser may fetch beside the page itself."""
    return {path.name: path for path in sorted(CONSOLE.iterdir()) if path.suffix in TYPES}


def page_routes() -> APIRouter:
    """The console at /, its files at /console/NAME."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def console() -> Response:
        return FileResponse(CONSOLE / "index.html", media_type="text/html; charset=utf-8")

    @router.get("/console/{name}")
    def console_file(name: str) -> Response:
        path = console_files().get(name)
        if path is None:
            known = ", ".join(console_files())
            raise Problematic(404, "not_found", f"no console file {name!a}; there are {known}")
        return FileResponse(path, media_type=TYPES[path.suffix])

    return router
