"""A person's ways through the console, in a real browser."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from console_bench import EVIL
from served_site import Site, keep
from serving_fakes import NOW

from penstock.data.journal import Journal
from penstock.registry.approvals import reject
from penstock.registry.tokens import create_token

PAGES = ("now", "challengers", "challengers/3", "data", "try", "history")
Open = Callable[..., Any]


def test_from_the_first_screen_to_a_click_that_changes_the_list(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("link", name="Serve v1").wait_for()
    page.get_by_role("group", name="NDCG@10 by round").wait_for()
    assert page.get_by_role("heading", name="Version 3").is_visible(), "what waits is on the first screen"
    keep(page, "first-screen")
    page.get_by_role("link", name="Try it").click()
    page.locator(".items > li").nth(9).wait_for()
    before = page.locator(".items .title").all_inner_texts()
    page.get_by_role("button", name=f"Click {before[4]}").first.click()
    page.get_by_text("After the click").wait_for()
    after = page.locator(".lists > div").nth(1).locator(".title").all_inner_texts()
    assert len(after) == 10
    assert after != before
    assert "ms from the click to the new list" in page.locator(".message").inner_text()
    why = page.locator(".lists > div").nth(1).locator(".because").first
    why.locator("summary").click()
    assert "Stands out from the other candidates" in why.inner_text()
    keep(page, "after-the-click")
    page.get_by_role("button", name="Score parts and past clicks").click()
    page.get_by_text("Each item with what its score rests on, and the past clicks").wait_for()
    why = page.locator(".because").first.inner_text()
    assert "What the score rests on, against an average item" in why
    assert "raises its score by" in why
    keep(page, "score-parts")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_text("Their past, newest first").wait_for()
    page.get_by_label("Compare with").select_option("3")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("heading", name="Version 3").wait_for()
    assert page.locator(".lists > div").count() == 2
    keep(page, "compared")
    assert page.faults == []


def test_an_approval_swaps_the_champion(open_page: Open, site: Site) -> None:
    page = open_page("challengers/3")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Reason").fill("slices look fine")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("version 3 serves now").wait_for()
    assert site.bench.runtime.current().version == "3"
    page.get_by_role("link", name="History").click()
    entry = page.locator(".timeline li").filter(has_text="promoted").first
    entry.wait_for()
    assert "v3 in place of v1 by Grace" in entry.inner_text()
    assert "slices look fine" in entry.inner_text()
    keep(page, "approved")


def test_a_decision_needs_a_reason(open_page: Open, site: Site) -> None:
    page = open_page("challengers/3")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_role("button", name="Approve").click()
    assert page.evaluate("document.activeElement.placeholder") == "what did you look at?"
    assert site.bench.registry.champion_pointer().number == "1"


def test_a_refusal(open_page: Open, site: Site) -> None:
    page = open_page()
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Reason").fill("new users lose")
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("was rejected and never serves").wait_for()
    page.get_by_text("Nobody waits.").wait_for()
    order = page.locator("main h2").all_inner_texts()
    assert order.index("Waits for a decision") < order.index("Fresh against stale"), "what was said stays in sight"
    assert site.bench.registry.version("3").status == "rejected"
    assert site.bench.registry.champion_pointer().number == "1"
    keep(page, "rejected")


def test_a_quarantine_replay(open_page: Open, site: Site) -> None:
    page = open_page("data")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Reason").fill("the exporter is repaired")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("1 entry replayed: 3 events wait again").wait_for()
    page.get_by_role("table").get_by_text("replayed").wait_for()
    assert Journal(site.bench.state, site.bench.settings.data).pending() == 4
    keep(page, "replayed")


def test_all_that_is_held_at_once(open_page: Open, site: Site) -> None:
    for item in ("i1", "i2", "i3"):
        held = json.dumps({"user_id": "ada", "item_id": item, "kind": "click"})
        site.bench.insert("quarantine", snapshot_id="s3", event=held, reasons='["odd"]', created_at=1, status="held")
    page = open_page("data")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Reason").fill("all of it was a test")
    page.get_by_label("choose all that is held").check()
    page.get_by_role("button", name="Waive").click()
    page.get_by_text("4 entries waived").wait_for()


def test_the_first_screen_holds_the_loop_the_curve_and_the_clock(open_page: Open, site: Site) -> None:
    reject(site.bench.registry, site.bench.state, "3", "Ada", "it loses", NOW)
    page = open_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_text("Nobody waits.").wait_for()
    for name in ("The loop", "Fresh against stale", "Freshness", "Champion"):
        box = page.get_by_role("heading", name=name, exact=True).bounding_box()
        assert box["y"] + box["height"] < 800, name
    assert page.locator(".plot svg").first.bounding_box()["y"] < 500


def test_what_waits_comes_before_the_figures(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("heading", name="Version 3").wait_for()
    order = page.locator("main h2").all_inner_texts()
    assert order.index("Waits for a decision") < order.index("Fresh against stale")


def test_the_form_of_try_it_stays_in_two_rows(open_page: Open) -> None:
    page = open_page("try")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.locator(".items > li").nth(9).wait_for()
    fields = [page.get_by_label(name).bounding_box() for name in ("User", "Query, optional", "Compare with")]
    assert len({round(box["y"] + box["height"]) for box in fields}) == 1
    assert page.get_by_role("button", name="Recommend").bounding_box()["x"] < fields[0]["x"] + 1


def test_without_a_token_it_says_to_sign_in(open_page: Open, site: Site) -> None:
    token = create_token(site.bench.state, "Grace", "viewer", "root", NOW)
    page = open_page(waits_for=".link-state:has-text('sign in to look')")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#link.up")
    page.get_by_text("Grace (viewer)").wait_for()


def test_a_versions_page_leads_to_its_parts_and_past(open_page: Open) -> None:
    page = open_page("challengers/3")
    page.get_by_role("navigation", name="On this page").get_by_role("button", name="Data and lineage").click()
    assert page.evaluate("document.activeElement.textContent") == "Data and lineage"
    assert page.get_by_text("Descends from").locator("..").get_by_role("link", name="v1").count() == 1
    page.evaluate("location.hash = 'challengers/99'")
    page.get_by_text("no version '99'").wait_for()


def test_a_pseudonym_is_shown_by_its_beginning_and_asked_for_whole(open_page: Open, site: Site) -> None:
    user, brief = "u_" + "7c" * 32, "u_7c7c7c7c…"
    event = {"event_id": "p1", "user_id": user, "item_id": "i3", "kind": "click", "at": NOW}
    site.bench.runtime.accept([event])
    held = json.dumps({"user_id": user, "item_id": "i3", "kind": "click"})
    site.bench.insert("quarantine", snapshot_id="s2", event=held, reasons='["odd"]', created_at=1, status="held")
    page = open_page("try")
    page.get_by_text(f"For {brief}, from their history").wait_for()
    field = page.get_by_label("User")
    assert (field.input_value(), field.get_attribute("title")) == (brief, user)
    page.locator(".items button").first.click()
    page.get_by_text(f"{brief} clicked").wait_for()
    assert site.bench.runtime.journal.read(0, 100)["user_id"][-1] == user
    keep(page, "pseudonym")
    field.fill("ada")
    assert field.get_attribute("title") == "ada"
    page.get_by_role("link", name="Data").click()
    assert page.get_by_title(user).inner_text() == brief


def test_hostile_text_stays_text(open_page: Open) -> None:
    page = open_page()
    for name in PAGES:
        page.evaluate("name => { location.hash = name }", name)
        page.wait_for_timeout(50)
        page.get_by_text(EVIL).first.wait_for(state="attached")
        assert page.evaluate("window.hacked") is None, name
    assert page.locator("main img, main script").count() == 0
    assert page.faults == []


def test_the_services_policy_lets_every_page_work(open_page: Open) -> None:
    page = open_page(policy=True)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    for name in PAGES:
        page.evaluate("name => { location.hash = name }", name)
        page.wait_for_selector("main .panel >> nth=0")
        page.wait_for_timeout(150)
    assert [line for line in said if "Content Security Policy" in line] == []
    assert page.faults == []


@pytest.mark.parametrize(
    ("names", "phone", "dark"),
    [(("now", "try", "challengers/3"), False, False), (("data", "history", "challengers"), True, True)],
    ids=["desktop light", "phone dark"],
)
def test_labels_and_contrast(open_page: Open, names: tuple[str, ...], phone: bool, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(phone=phone, dark=dark)
    for name in names:
        page.evaluate("name => { location.hash = name }", name)
        page.wait_for_timeout(400)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], name
        keep(page, f"{name.replace('/', '-')}-{'phone-dark' if phone else 'desktop-light'}")


def test_no_page_is_wider_than_a_phone(open_page: Open) -> None:
    page = open_page(phone=True)
    for name in PAGES:
        page.evaluate("name => { location.hash = name }", name)
        page.wait_for_timeout(250)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name


def test_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "page"
    page.get_by_role("link", name="Data").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Drift").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Data", "focus goes to the page's heading"
    chart = page.get_by_role("group", name="Clicks per impression")
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert "s1" in page.locator(".plot").first.locator(".tip").inner_text()
