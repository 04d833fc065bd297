"""An approval binds to what was seen, for as long as it is true, and to nobody's own work."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from registry_bench import NOW, Bench

from penstock.errors import ApprovalError
from penstock.registry import audit
from penstock.registry.approvals import Sight, list_approvals
from penstock.registry.promotion import approve, promote, reject
from penstock.registry.store import Registry
from penstock.registry.tables import approvals
from penstock.registry.versions import binding_of


def test_without_an_approval_nothing_is_promoted(bench: Bench) -> None:
    bench.challenger()
    with pytest.raises(ApprovalError, match=r"has no approval and promotion\.policy is manual"):
        promote(bench.registry, bench.state, "1", "ada", "now", None, NOW)
    assert bench.serving() is None
    assert [entry.action for entry in audit.entries(bench.state)] == ["register", "promote-refused"]


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("digest", "f" * 64, "it is for bundle ffffffffffff"),
        ("report_digest", "f" * 64, "it is for gate report ffffffffffff"),
        ("champion_number", "7", "given while version 7 served, now nothing serves"),
        ("champion_digest", "f" * 64, "given while nothing served"),
        ("environment", "production", "it is for environment production, this is local"),
        ("used_at", 0, "it was used at 1970"),
        ("actor", "Penstock", "Penstock asked for the version"),
    ],
)
def test_an_approval_of_anything_else_does_not_bind(bench: Bench, column: str, value: Any, why: str) -> None:
    bench.challenger()
    approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    with bench.state.write() as conn:
        conn.execute(sa.update(approvals).values(**{column: value}))
    with pytest.raises(ApprovalError, match=why):
        promote(bench.registry, bench.state, "1", "ada", "now", None, NOW)
    assert bench.serving() is None
    entry = audit.entries(bench.state)[-1]
    assert entry.action == "promote-refused"
    assert why in entry.details["error"]


def test_an_approval_expires_and_can_be_renewed(bench: Bench) -> None:
    bench.challenger()
    approval = approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    late = NOW + timedelta(hours=bench.settings.promotion.approval_expires_h)
    assert approval.expires_at == late
    with pytest.raises(ApprovalError, match="it expired at 2026-03-02T12:00:00"):
        promote(bench.registry, bench.state, "1", "ada", "now", None, late)
    assert approve(bench.registry, bench.state, "1", "ada", "still fine", late).id != approval.id
    promote(bench.registry, bench.state, "1", "ada", "now", None, late)
    assert bench.serving() == "1"


def test_an_approval_from_the_future_does_not_bind(bench: Bench) -> None:
    bench.challenger()
    approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    with pytest.raises(ApprovalError, match="after now"):
        promote(bench.registry, bench.state, "1", "ada", "now", None, NOW - timedelta(seconds=1))


def test_a_change_of_champion_makes_an_approval_stale(bench: Bench) -> None:
    bench.champion()
    first, second = bench.challenger(), bench.challenger()
    approve(bench.registry, bench.state, first.number, "ada", "fine", NOW)
    bench.promote(second)
    with pytest.raises(ApprovalError, match="cannot be approved: the gates compared"):
        approve(bench.registry, bench.state, first.number, "ada", "fine", NOW)


def test_an_approval_given_elsewhere_does_not_bind(
    bench: Bench, reopened: Callable[[dict[str, object]], Registry]
) -> None:
    bench.challenger()
    approve(reopened({"registry.environment": "staging"}), bench.state, "1", "ada", "fine", NOW)
    with pytest.raises(ApprovalError, match="it is for environment staging, this is local"):
        promote(bench.registry, bench.state, "1", "ada", "now", None, NOW)


@pytest.mark.parametrize("actor", ["penstock", "Penstock", "  PENSTOCK ", "ｐenstock"])
def test_nobody_approves_their_own(bench: Bench, actor: str) -> None:
    bench.challenger()
    with pytest.raises(ApprovalError, match="asked for version 1 and cannot approve it"):
        approve(bench.registry, bench.state, "1", actor, "mine", NOW)
    assert list_approvals(bench.state, "local") == []
    assert audit.entries(bench.state)[-1].action == "approve-refused"


def test_a_decision_needs_a_name_and_a_reason(bench: Bench) -> None:
    bench.challenger()
    for decide in (approve, reject):
        with pytest.raises(ApprovalError, match="needs a name, found ' '"):
            decide(bench.registry, bench.state, "1", " ", "fine", NOW)
        with pytest.raises(ApprovalError, match="needs a reason, found ''"):
            decide(bench.registry, bench.state, "1", "ada", "", NOW)
    assert bench.registry.version("1").status == "challenger"


def test_approving_again_is_the_same_approval_and_a_second_person_is_told(bench: Bench) -> None:
    bench.challenger()
    first = approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    assert approve(bench.registry, bench.state, "1", "Ada", "really", NOW) == first
    with pytest.raises(ApprovalError, match="already approved by ada; promote it"):
        approve(bench.registry, bench.state, "1", "bob", "me too", NOW)


def test_a_rejected_version_never_serves(bench: Bench) -> None:
    bench.challenger()
    approve(bench.registry, bench.state, "1", "ada", "fine", NOW)
    decided = reject(bench.registry, bench.state, "1", "bob", "offensive titles on top", NOW)
    assert (decided.decision, decided.expires_at) == ("reject", None)
    version = bench.registry.version("1")
    assert (version.status, version.tags["penstock.status"], bench.alias("challenger")) == (
        "rejected",
        "rejected",
        None,
    )
    with pytest.raises(ApprovalError, match="version 1 was rejected"):
        approve(bench.registry, bench.state, "1", "ada", "please", NOW)
    with pytest.raises(ApprovalError, match="cannot be rejected again"):
        reject(bench.registry, bench.state, "1", "bob", "still", NOW)
    with pytest.raises(Exception, match="version 1 was rejected"):
        promote(bench.registry, bench.state, "1", "ada", "now", None, NOW)
    assert bench.serving() is None


def test_the_champion_cannot_be_rejected(bench: Bench) -> None:
    bench.champion()
    with pytest.raises(ApprovalError, match="it serves now; roll back first"):
        reject(bench.registry, bench.state, "1", "ada", "bad", NOW)


def test_a_decision_counts_for_what_was_looked_at(bench: Bench) -> None:
    old = bench.champion()
    number = bench.challenger().number
    shown = bench.registry.binding(bench.registry.version(number))
    elsewhere = binding_of(bench.registry.version(number), bench.registry.ledger(), "production")
    for stale in (elsewhere, "0" * 64):
        with pytest.raises(ApprovalError, match=f"is not what was looked at any more.*version {old.number} serves"):
            approve(bench.registry, bench.state, number, "ada", "fine", NOW, Sight(stale))
        with pytest.raises(ApprovalError, match="look again"):
            reject(bench.registry, bench.state, number, "ada", "odd", NOW, Sight(stale))
    assert approve(bench.registry, bench.state, number, "ada", "fine", NOW, Sight(shown)).number == number
    refused = [entry.action for entry in audit.entries(bench.state) if entry.action.endswith("refused")]
    assert refused == ["approve-refused", "reject-refused"] * 2


def test_a_decision_sent_again_is_refused(bench: Bench) -> None:
    first, second = bench.challenger(), bench.challenger()
    approve(bench.registry, bench.state, first.number, "ada", "fine", NOW, Sight(nonce="n-1"))
    for number in (first.number, second.number):
        with pytest.raises(ApprovalError, match=r"was sent before \(nonce 'n-1'\)"):
            approve(bench.registry, bench.state, number, "ada", "fine", NOW, Sight(nonce="n-1"))
    with pytest.raises(ApprovalError, match="was sent before"):
        reject(bench.registry, bench.state, second.number, "ada", "odd", NOW, Sight(nonce="n-1"))


def test_a_copy_of_a_spent_approval_does_not_bind(bench: Bench) -> None:
    """Whoever can write the table could copy a row, but not its nonce."""
    number = bench.challenger().number
    approve(bench.registry, bench.state, number, "ada", "fine", NOW)
    with bench.state.write() as conn:
        row = dict(conn.execute(sa.select(approvals)).mappings().one())
        conn.execute(sa.insert(approvals).values(**{key: row[key] for key in row if key != "id"}))
    with pytest.raises(ApprovalError, match="it has no nonce of its own"):
        promote(bench.registry, bench.state, number, "ada", "now", None, NOW)
    assert bench.serving() is None
