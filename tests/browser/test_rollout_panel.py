"""A rollout in the console: a real one, over a running service."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from served_site import Site, keep
from serving_fakes import NOW, event

from penstock.registry.rollouts import Exposure, Mode, Rollout, latest, record, start, stop

EARLIER = NOW - timedelta(hours=1)
Open = Callable[..., Any]


def begin(site: Site, mode: Mode, share: float) -> Rollout:
    """Version 3 beside the champion, taken up by the service."""
    bench = site.bench
    begun = start(bench.registry, bench.state, "3", mode, share, "Ada", "a first look", EARLIER)
    until_s = time.monotonic() + 60
    while bench.app.state.rollouts.active is None and time.monotonic() < until_s:
        time.sleep(0.02)
    assert bench.app.state.rollouts.active == begun
    return begun


def answer(site: Site, rollout: Rollout, chosen: dict[str, float]) -> None:
    """300 answers of each arm an hour ago, and the share of them that led to a click."""
    rng, rows, clicks = np.random.default_rng(5), [], []
    for number in range(600):
        arm: Any = "challenger" if number % 2 else "champion"
        user, request = f"{arm}-{number % 120}", f"r{number}"
        elapsed_s = 0.003 + rng.exponential(0.002)
        rows.append(Exposure(request, arm, user, EARLIER, elapsed_s, False, (("i1", None),)))
        if rng.random() < chosen[arm]:
            clicks.append(event(number, user, "i1") | {"request_id": request, "at": EARLIER})
    record(site.bench.state, rollout.id, rows)
    site.bench.runtime.journal.append(clicks, EARLIER + timedelta(minutes=1))


def accessible(page: Any) -> list[Any]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]


def rows_of(panel: Any) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in panel.locator("tbody tr").all()]


def test_a_shadow(open_page: Open, site: Site) -> None:
    begin(site, "shadow", 1.0)
    page = open_page("challengers")
    for number in range(12):
        asked = page.request.post(f"{site.address}/v1/recommendations", data={"user_id": f"u{number}", "k": 5})
        assert asked.json()["version"] == "1", "nobody sees the shadow's lists"
    panel = page.get_by_role("region", name="Rollout", exact=True)
    panel.get_by_role("row", name="Shadow v3 12 12 0").wait_for()
    panel.get_by_role("row", name="Champion v1 12 12 0").wait_for()
    said = panel.inner_text()
    for words in ("v3 beside the champion v1, since", "in the dark", "Items that both show\n100%", "0 answers"):
        assert words in said
    champion, shadow = rows_of(panel)
    assert champion[3] == "–\nno answer is 30 min old"
    assert shadow[3] == "–\nnobody saw its lists"
    assert panel.get_by_text('penstock rollout stop --reason "…"').is_visible()
    assert page.locator("main h2").all_inner_texts()[0] == "Rollout"
    assert accessible(page) == []
    keep(page, "rollout-shadow")
    stop(site.bench.state, "local", "Ada", "seen enough", NOW)
    panel.get_by_text("seen enough").wait_for()
    assert "penstock rollout stop" not in panel.inner_text()
    assert page.faults == []


@pytest.mark.parametrize("phone", [False, True], ids=["desktop light", "phone dark"])
def test_a_canary(open_page: Open, site: Site, phone: bool) -> None:
    answer(site, begin(site, "canary", 0.1), {"champion": 0.3, "challenger": 0.3})
    page = open_page(phone=phone, dark=phone)
    link = page.get_by_role("link", name="v3 for 10% of the users")
    link.wait_for()
    keep(page, f"rollout-on-now-{'phone' if phone else 'desktop'}")
    link.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Rollout", exact=True)
    panel.get_by_text("the 99% interval holds 0").wait_for()
    assert "cannot be told yet" in panel.inner_text()
    assert panel.locator(".picture").count() == 3, "each arm's click rate, and the difference"
    for row in rows_of(panel):
        assert row[:3] == ["300", "60", "0"]
        assert "of 300 answers" in row[3]
    assert accessible(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    keep(page, f"rollout-canary-{'phone' if phone else 'desktop'}")
    panel.get_by_role("link", name="v3").click()
    page.get_by_role("heading", name="Version 3").wait_for()
    assert page.faults == []


def test_an_ab_test_that_began_says_what_it_waits_for(open_page: Open, site: Site) -> None:
    begin(site, "ab", 0.5)
    page = open_page("challengers")
    panel = page.get_by_role("region", name="Rollout", exact=True)
    panel.get_by_text("0 answers in the smaller arm, 200 are needed; one counts 30 min after it was given").wait_for()
    assert "ends itself only when it fails more" in panel.inner_text()
    assert panel.locator(".picture").count() == 0
    keep(page, "rollout-ab")


def test_a_canary_that_ended_itself_stays_in_sight_for_a_day(open_page: Open, site: Site) -> None:
    rollout = begin(site, "canary", 0.1)
    answer(site, rollout, {"champion": 0.4, "challenger": 0.1})
    page = open_page("challengers")
    panel = page.get_by_role("region", name="Rollout", exact=True)
    panel.get_by_text("ended", exact=True).wait_for()
    assert "is below the champion's" in panel.inner_text()
    assert panel.locator(".verdict").all_inner_texts() == ["ended", "worse"]
    assert "Difference of click rates\n−" in panel.inner_text()
    keep(page, "rollout-ended")
    page.get_by_role("link", name="Now").click()
    page.get_by_text("Learned until").wait_for()
    assert page.get_by_text("Beside it").count() == 0
    page.clock.set_fixed_time(NOW + timedelta(days=1, minutes=1))
    page.get_by_role("link", name="Challengers").first.click()
    page.get_by_role("heading", name="Every version").wait_for()
    page.get_by_role("table").get_by_text("challenger").wait_for()
    assert panel.count() == 0
    assert latest(site.bench.state, rollout.environment) is not None


def test_without_a_rollout_there_is_no_panel(open_page: Open) -> None:
    page = open_page("challengers")
    page.get_by_role("table").get_by_text("challenger").wait_for()
    assert page.get_by_role("region", name="Rollout", exact=True).count() == 0
