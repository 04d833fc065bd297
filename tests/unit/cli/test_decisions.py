"""versions, show, approve, reject, rollback, audit and status over a real registry; the bundles are tiny."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.data.state import open_state
from penstock.inference.bundle import RANK_FILES, write_manifest
from penstock.records import GateReport, GateResult, Lineage
from penstock.registry.store import open_registry
from penstock.registry.tables import audit
from penstock.settings import load_settings


def register(root: Path, name: str, passed: bool = True) -> str:
    """Register a bundle that verifies, judged against the present champion; its number."""
    settings = load_settings()
    registry = open_registry(settings, open_state(settings.state.url))
    folder = root / f"export-{name}"
    folder.mkdir()
    for file in RANK_FILES:
        (folder / file).write_text(f"{file} of {name}")
    digest = write_manifest(folder, {"task": "rank"})
    serving = registry.champion_pointer()
    now = datetime.now(UTC)
    gate = GateResult("ndcg", "ndcg@10", "all", ">=", -0.01, 0.02, -0.005, 0.04, passed, "paired bootstrap")
    report = GateReport(digest, serving.digest if serving else None, "s1", now.isoformat(), 200, 50, (gate,))
    lineage = Lineage("rank", name, "s1", "d" * 64, None, "c" * 40, "p" * 64, 7, now, {})
    return registry.register(folder, report, lineage, {}).number


Register = Callable[..., str]


@pytest.fixture
def challenger(registered: Path) -> Register:
    return lambda name, passed=True: register(registered, name, passed)


def test_from_challenger_to_champion_and_back(run, answer, challenger: Register) -> None:
    first = challenger("r1")
    assert [one["status"] for one in answer("versions")["versions"]] == ["challenger"]
    assert answer("status")["challengers"] == [first]
    done = answer("approve", first, "--reason", "looked at the gates", "--actor", "ada")
    assert (done["status"], done["champion"], done["actor"]) == ("champion", first, "ada")
    second = challenger("r2")
    answer("approve", second, "--reason", "better", "--actor", "ada")
    back = answer("rollback", "--reason", "clicks fell", "--actor", "bob")
    assert (back["version"], back["champion"]) == (first, first)
    answer("reject", second, "--reason", "never again", "--actor", "bob")
    shown = answer("show", second)
    assert shown["status"] == "rejected"
    assert [one["decision"] for one in shown["approvals"]] == ["approve", "reject"]
    assert shown["gate_report"]["passed"]
    assert Path(shown["bundle"]).is_dir()
    assert "looked at the gates" in run("show", first).stdout
    assert answer("status")["champion"]["version"] == first
    assert f"version {first}" in run("status").stdout


def test_a_version_whose_bundle_is_gone_is_still_shown(run, answer, challenger: Register) -> None:
    number = challenger("r1")
    answer("approve", number, "--reason", "fine", "--actor", "ada")
    second = challenger("r2")
    assert answer("show", second)["bundle_kept"]
    shutil.rmtree(answer("show", second)["bundle"])
    shown = answer("show", second)
    assert (shown["bundle_kept"], shown["rows"], shown["gate_report"]["passed"]) == (False, None, True)
    assert "its bundle is not kept any more" in run("show", second).stdout
    begun = answer("rollout", "start", second, "--reason", "to try", "--actor", "ada", code=1)
    assert f"the bundle of version {second} is not kept any more" in begun["error"]["message"]


def test_what_does_not_bind_is_refused(answer, challenger: Register) -> None:
    assert "no version '9'" in answer("show", "9", code=1)["error"]["message"]
    assert "no version '9'" in answer("approve", "9", "--reason", "x", code=1)["error"]["message"]
    refused = challenger("r1", passed=False)
    error = answer("approve", refused, "--reason", "looks fine", "--actor", "ada", code=1)["error"]
    assert error["kind"] == "ApprovalError"
    assert "refused" in error["message"] or "did not pass" in error["message"]
    assert answer("rollback", "--reason", "x", "--actor", "ada", code=1)["error"]["kind"] == "RegistryError"
    waiting = challenger("r2")
    own = answer("approve", waiting, "--reason", "mine", "--actor", "penstock", code=1)["error"]["message"]
    assert "somebody else has to" in own
    assert "needs a reason" in answer("approve", waiting, "--reason", " ", "--actor", "ada", code=1)["error"]["message"]


def test_a_decision_needs_a_reason(answer) -> None:
    for words in (("approve", "1"), ("reject", "1"), ("rollback",)):
        assert "--reason" in answer(*words, code=2)["error"]["message"]


def test_the_actor_is_the_account_unless_named(answer, challenger: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    assert answer("reject", challenger("r1"), "--reason", "no")["actor"] == "grace"


def test_an_account_without_a_name_has_to_give_one(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert "--actor NAME" in answer("reject", "1", "--reason", "no", code=1)["error"]["message"]


def test_an_altered_audit_log_is_found(run, answer, challenger: Register) -> None:
    number = challenger("r1")
    answer("approve", number, "--reason", "fine", "--actor", "ada")
    assert answer("audit", "verify")["ok"]
    entries = answer("audit", "list", "--version", number)["entries"]
    assert [one["action"] for one in entries] == ["register", "approve", "promote"]
    state = open_state(load_settings().state.url)
    with state.write() as conn:
        conn.execute(sa.update(audit).where(audit.c.seq == 2).values(actor="mallory"))
    verdict = answer("audit", "verify", code=1)
    assert (verdict["ok"], verdict["broken_at"]) == (False, 2)
    assert "entry 2 was altered" in run("audit", "verify").stdout
