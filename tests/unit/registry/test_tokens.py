"""A token is shown once, kept as a hash, and means a name and a role until it is revoked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from registry_bench import NOW

from penstock.data.state import State, open_state
from penstock.errors import AccessError
from penstock.registry import audit
from penstock.registry.tables import tokens as table
from penstock.registry.tokens import MAY, PREFIX, Keys, create_token, list_tokens, read_keys, revoke_token


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    yield state
    state.engine.dispose()


def test_nothing_is_required_until_the_first_token_and_then_for_good(state: State) -> None:
    assert read_keys(state) == Keys(False, {})
    create_token(state, "ada", "admin", "ada", NOW)
    assert read_keys(state).required
    revoke_token(state, "Ada", "ada", NOW)
    assert read_keys(state) == Keys(True, {}), "revoking the last one does not open the door"


def test_a_token_leads_to_its_name_and_role_and_is_nowhere_in_the_database(state: State, tmp_path: Path) -> None:
    token = create_token(state, "  Ada  Lovelace ", "approver", "root", NOW)
    caller = read_keys(state).caller(token)
    assert caller is not None
    assert (caller.name, caller.role) == ("Ada Lovelace", "approver")
    with state.write() as conn:
        conn.exec_driver_sql("SELECT 1")
    files = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert token.removeprefix(PREFIX).encode() not in files
    assert "sha256" not in str(list_tokens(state))
    assert [(one.name, one.created_by, one.revoked_at) for one in list_tokens(state)] == [
        ("Ada Lovelace", "root", None)
    ]


def test_a_revoked_token_is_nobodys_and_its_name_is_free_again(state: State) -> None:
    old = create_token(state, "ada", "viewer", "root", NOW)
    with pytest.raises(AccessError, match="'ADA' has a token already"):
        create_token(state, "ADA", "viewer", "root", NOW)
    revoke_token(state, "ada", "root", NOW)
    new = create_token(state, "ada", "feeder", "root", NOW)
    keys = read_keys(state)
    assert keys.caller(old) is None
    caller = keys.caller(new)
    assert caller is not None
    assert caller.role == "feeder"
    with pytest.raises(AccessError, match="no live token is called 'bob'; there is ada"):
        revoke_token(state, "bob", "root", NOW)


def test_making_and_revoking_is_in_the_audit_log(state: State) -> None:
    create_token(state, "ada", "viewer", "root", NOW)
    revoke_token(state, "ada", "grace", NOW)
    assert [(e.actor, e.action, e.subject) for e in audit.entries(state)] == [
        ("root", "create-token", "token:ada"),
        ("grace", "revoke-token", "token:ada"),
    ]


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "x" * 101, "penstock", "Policy", "watch  period"])
def test_names_that_nobody_may_bear(state: State, name: str) -> None:
    with pytest.raises(AccessError):
        create_token(state, name, "viewer", "root", NOW)
    with state.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


def test_who_may_do_what() -> None:
    assert MAY["feeder"] == {"feed", "ask"}
    assert MAY["viewer"] == {"read", "ask"}
    assert MAY["approver"] == MAY["viewer"] | {"decide"}
    assert MAY["admin"] == {"feed", "ask", "read", "decide", "administer"}


@given(st.text())
def test_no_other_text_is_a_token(text: str) -> None:
    assert Keys(True, {"0" * 64: None}).caller(text) is None  # type: ignore[dict-item]
