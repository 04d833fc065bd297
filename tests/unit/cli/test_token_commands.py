"""token create, list and revoke, and decisions once there are tokens."""

from collections.abc import Callable

import pytest
from test_decisions import challenger  # noqa: F401

from penstock.data.state import open_state
from penstock.registry.audit import entries
from penstock.registry.tokens import VARIABLE
from penstock.settings import load_settings

Register = Callable[..., str]


def test_a_token_is_printed_once(run, answer) -> None:
    made = answer("token", "create", "--role", "viewer", "--name", "ada", "--actor", "root")
    assert made["token"].startswith("pst_")
    listed = run("token", "list")
    assert "ada" in listed.stdout
    assert made["token"] not in listed.stdout
    assert "token" not in answer("token", "list")["tokens"][0]
    assert answer("token", "revoke", "ada", "--actor", "root")["revoked"]
    assert answer("token", "list")["tokens"][0]["revoked_by"] == "root"
    error = answer("token", "revoke", "ada", "--actor", "root", code=1)["error"]
    assert (error["kind"], error["message"]) == ("AccessError", "no live token is called 'ada'; there is none")


def test_once_there_are_tokens_a_decision_needs_one(
    answer,
    challenger: Register,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def token(role: str, name: str) -> str:
        return str(answer("token", "create", "--role", role, "--name", name, "--actor", "root")["token"])

    viewer, approver, admin = token("viewer", "vera"), token("approver", "ada"), token("admin", "root")
    number = challenger("r1")
    words = ("approve", number, "--reason", "fine")
    assert VARIABLE in answer(*words, "--actor", "ada", code=1)["error"]["message"]
    for value, why in ((viewer, "vera is viewer"), ("pst_wrong", "is not known, or was revoked")):
        monkeypatch.setenv(VARIABLE, value)
        error = answer(*words, code=1)["error"]
        assert error["kind"] == "AccessError"
        assert why in error["message"]
    monkeypatch.setenv(VARIABLE, approver)
    assert "signed 'bob'" in answer(*words, "--actor", "bob", code=1)["error"]["message"]
    done = answer(*words)
    assert (done["champion"], done["actor"]) == (number, "ada")
    second = challenger("r2")
    stale = answer("show", number)["binding"]
    assert "look again" in answer("approve", second, "--reason", "fine", "--seen", stale, code=1)["error"]["message"]
    assert (
        answer("approve", second, "--reason", "ok", "--seen", answer("show", second)["binding"])["champion"] == second
    )
    assert "it takes admin" in answer("rollback", "--reason", "clicks fell", code=1)["error"]["message"]
    monkeypatch.setenv(VARIABLE, admin)
    assert answer("rollback", "--reason", "clicks fell")["champion"] == number
    state = open_state(load_settings().state.url)
    refused = [entry.action for entry in entries(state) if entry.action.endswith("refused")]
    assert len(refused) == 6
    assert answer("audit", "verify")["ok"]


def test_once_there_are_tokens_the_machine_is_not_enough_to_settle_or_erase(
    answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {
        ("quarantine", "waive", "1"): "approver, admin",
        ("quarantine", "replay", "1"): "approver, admin",
        ("quarantine", "fix", "1", "--map", "item_id:a=b"): "approver, admin",
        ("rollout", "start", "1"): "admin",
        ("rollout", "stop"): "admin",
        ("erase", "a-user-of-mine"): "admin",
    }
    made = answer("token", "create", "--role", "viewer", "--name", "vera", "--actor", "root")["token"]
    for order in orders:
        assert VARIABLE in answer(*order, "--reason", "so", code=1)["error"]["message"], order
    monkeypatch.setenv(VARIABLE, made)
    for order, able in orders.items():
        error = answer(*order, "--reason", "so", code=1)["error"]
        assert error["kind"] == "AccessError", order
        assert f"vera is viewer, it takes {able}" in error["message"], order
    kept = entries(open_state(load_settings().state.url))
    assert sum(entry.action.endswith("refused") for entry in kept) == 2 * len(orders)
    assert "a-user-of-mine" not in str(kept)


def test_a_new_user_key_takes_an_admin_and_is_in_the_audit_log(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer("rotate-user-key", "--actor", "root")["keys"] == 1
    admin = answer("token", "create", "--role", "admin", "--name", "ada", "--actor", "root")["token"]
    assert VARIABLE in answer("rotate-user-key", code=1)["error"]["message"]
    monkeypatch.setenv(VARIABLE, admin)
    assert answer("rotate-user-key")["keys"] == 2
    state = open_state(load_settings().state.url)
    told = [(one.actor, one.action) for one in entries(state) if one.action.startswith("rotate")]
    state.engine.dispose()
    assert [one for one in told if one[1] == "rotate-user-key"] == [
        ("root", "rotate-user-key"),
        ("ada", "rotate-user-key"),
    ]
