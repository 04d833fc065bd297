import re
from typing import Any

from penstock.evaluation.version_page import version_page
from penstock.records import GateReport, GateResult

EVIL = "<script>alert(1)</script>"
GATES = (
    GateResult("ndcg_vs_champion", "ndcg@10", "all", ">=", -0.05, 0.02, -0.01, 0.04, True, "whole"),
    GateResult("ndcg_new_users", "ndcg@10", "new users", ">=", -0.05, -0.2, -0.3, -0.1, False, "a slice"),
)
MEANS = {"challenger": {"ndcg@10": {"mean": 0.6123, "low": 0.58, "high": 0.64}}, "champion": {}}


def detail(**changes: Any) -> dict[str, Any]:
    lineage = {
        "task": "rank", "round_id": "r-s1", "snapshot_id": "s1", "data_sha256": "d" * 64, "parent_version": None,
        "git_commit": "c" * 40, "params_sha256": "p" * 64, "seed": 7, "learned_until": "2026-01-01T00:00:00+00:00",
        "libraries": {"numpy": "2.4"},
    }  # fmt: skip
    snapshot = {
        "rows": 6415, "counts_by_kind": {"click": 600}, "window_start": "2026-01-01T00:00:00+00:00",
        "window_end": "2026-01-01T01:10:00+01:00", "late_rows": 3,
        "quarantined_rows": 2, "status": "learned",
    }  # fmt: skip
    base = {
        "number": "4", "status": "challenger", "created_at": "2026-01-01T00:00:00+00:00", "digest": "b" * 64,
        "requester": "penstock",
        "lineage": lineage, "report_digest": "e" * 64, "report_error": None, "snapshot": snapshot,
        "round": {"metrics": {"loss": 1.25}, "stages_s": {"learning": 4.0}},
        "curves": {"loss": [{"step": step, "value": 3.0 - step} for step in range(3)]}, "decisions": [],
    }  # fmt: skip
    return base | changes


def report(gates: tuple[GateResult, ...] = GATES) -> GateReport:
    return GateReport("b" * 64, None, "s1", "2026-01-01", 200, 50, gates, {"means": MEANS})


def test_the_page_holds_gates_slices_lineage_data_and_curves() -> None:
    page = version_page(detail(), report(), "now")
    told = (
        "Refused by ndcg_new_users", "ndcg_vs_champion", "<h2>Slices</h2>", "d" * 64, "6,415 (600 click)", "0.6123",
        "0.58 to 0.64", "Loss by step", "step 2", "Nobody let it serve", "none: the first",
        "2026-01-01 00:00:00 UTC to 2026-01-01 00:10:00 UTC",
    )  # fmt: skip
    for text in told:
        assert text in page, text
    assert page.index("new users</strong>") > page.index("<h2>Slices</h2>") > page.index("ndcg_vs_champion</strong>")


def test_it_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    decisions = [{"at": "2026-01-01T00:00:00", "what": "approve", "who": EVIL, "why": EVIL}]
    page = version_page(detail(decisions=decisions, status="champion"), report(), "now")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)=", page)


def test_who_let_it_serve() -> None:
    approve = {"at": "2026-01-01T00:00:00", "what": "approve", "who": "Ada", "why": "looks fine"}
    promote = approve | {"what": "promote"}
    assert "Approved by Ada: looks fine" in version_page(detail(decisions=[approve, promote]), report(), "now")
    policy = promote | {"who": "policy", "why": "all gates passed"}
    assert "Let serve by policy: all gates passed" in version_page(detail(decisions=[policy]), report(), "now")
    reject = approve | {"what": "reject", "why": "slices fell"}
    assert "Rejected by Ada: slices fell" in version_page(detail(decisions=[reject]), report(), "now")


def test_a_version_that_was_never_measured() -> None:
    bare = detail(lineage=None, snapshot=None, round=None, curves={}, report_error="never measured, says the registry")
    page = version_page(bare, None, "now")
    for text in ("never measured, says the registry", "carries no lineage", "not in this state database", "No curve"):
        assert text in page


def test_what_scrolls_can_be_reached_by_keyboard_and_the_page_has_a_main_part() -> None:
    page = version_page(detail(), report(), "now")
    assert page.count('class="scroll"') == page.count('class="scroll" tabindex="0"') > 0
    assert page.count("<main>") == page.count("</main>") == 1
