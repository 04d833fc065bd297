"""A real headless Chromium over the console, skipped where the machine has none (`make browser` installs it)."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from console_bench import empty_mlflow, make, with_a_past
from served_site import Site
from serving_fakes import NOW


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Closed with its module: while it is open its event loop counts as running in this thread."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; `make browser` installs Debian's")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_mlflow(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def site(chromium: Any, tmp_path: Path, mlflow: Path) -> Iterator[Site]:
    bench = with_a_past(make(tmp_path, mlflow))
    server = uvicorn.Server(uvicorn.Config(bench.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until_s = time.monotonic() + 60
    while not server.started and time.monotonic() < until_s:
        time.sleep(0.02)
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(bench, f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(20)
    bench.state.engine.dispose()


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Opens a page of the console; the service's policy is off by default, so that escaping alone has to hold."""
    contexts: list[Any] = []

    def opened(
        hash_: str = "now",
        phone: bool = False,
        dark: bool = False,
        policy: bool = False,
        waits_for: str = "#link.up",
    ) -> Any:
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        context = chromium.new_context(
            viewport=size, color_scheme="dark" if dark else "light", bypass_csp=not policy, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.clock.set_fixed_time(NOW)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(f"{site.address}/#{hash_}")
        page.wait_for_selector(waits_for)
        return page

    yield opened
    for context in contexts:
        context.close()
