"""Roles over HTTP: what a token opens, what it does not, and what is written down."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving_fakes import NOW, FakeJournal, FakeRegistry, FakeScorer, loader

from penstock.data.state import State, open_state
from penstock.errors import SettingsError
from penstock.registry import audit
from penstock.registry.tokens import Keys, create_token, read_keys, revoke_token
from penstock.serving import access
from penstock.serving.access import permission_for
from penstock.serving.app import create_app
from penstock.serving.decisions import Decisions
from penstock.serving.runtime import Runtime
from penstock.serving.server import check_host
from penstock.settings import Settings

ROLES = ("feeder", "viewer", "approver", "admin")


@dataclass
class Guarded:
    """A service over a state database, and one token of each role."""

    client: TestClient
    state: State
    tokens: dict[str, str]

    def bearer(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}


@pytest.fixture
def guarded(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setattr(access, "REFRESH_S", 0.0)
    monkeypatch.setattr(access, "WAIT_S", 30.0)  # a busy machine must not make the tokens of before stand in
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    registry = FakeRegistry(tmp_path)
    runtime = Runtime(
        registry, FakeJournal(), loader({"first": FakeScorer("first")}), 60.0, state, Decisions(registry, state),
        lambda: NOW,
    )  # fmt: skip
    registry.serve("1", "first")
    registry.add("2", "second")
    runtime.poll()
    client = TestClient(create_app(runtime, settings), raise_server_exceptions=False)
    tokens = {role: create_token(state, f"the {role}", role, "root", NOW) for role in ROLES}  # type: ignore[arg-type]
    yield Guarded(client, state, tokens)
    client.close()
    state.engine.dispose()


EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "kind": "click"}
CASES = [
    ("POST", "/v1/events", EVENT, {"feeder", "admin"}),
    ("POST", "/v1/recommendations", {}, set(ROLES)),
    ("GET", "/v1/items/i1/similar", None, set(ROLES)),
    ("GET", "/v1/challengers", None, {"viewer", "approver", "admin"}),
    ("GET", "/metrics", None, {"viewer", "approver", "admin"}),
    ("GET", "/v1/users", None, {"viewer", "approver", "admin"}),
    ("POST", "/v1/challengers/9/approve", {"reason": "x"}, {"approver", "admin"}),
    ("POST", "/v1/challengers/9/reject", {"reason": "x"}, {"approver", "admin"}),
    ("POST", "/v1/rollback", {"to": "9", "reason": "x"}, {"admin"}),
    ("GET", "/v1/tokens", None, {"admin"}),
    ("POST", "/v1/tokens", {"name": "eve", "role": "admin"}, {"admin"}),
    ("POST", "/v1/tokens/eve/revoke", {}, {"admin"}),
]


@pytest.mark.parametrize(("method", "path", "body", "able"), CASES)
def test_a_role_opens_its_routes_and_no_other(
    guarded: Guarded, method: str, path: str, body: object, able: set[str]
) -> None:
    for role in ROLES:
        status = guarded.client.request(method, path, json=body, headers=guarded.bearer(role)).status_code
        assert (status != 403) == (role in able), (role, status)
        assert status != 401
    for headers in ({}, {"Authorization": "Bearer pst_wrong"}, {"Authorization": "Basic eDp5"}, {"Cookie": "a=b"}):
        answer = guarded.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["error"]["code"] == "unknown_caller"


def test_probes_and_the_console_s_own_files_need_no_token(guarded: Guarded) -> None:
    for path in ("/", "/healthz", "/readyz", "/console/main.js", "/v1/session"):
        assert guarded.client.get(path).status_code == 200, path


def test_every_route_of_the_service_is_listed(guarded: Guarded) -> None:
    """What is not listed is for admins only; that is the safe side, and somebody should have decided it."""
    paths = guarded.client.app.openapi()["paths"]  # type: ignore[attr-defined]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "get"}
    assert ("POST", "/v1/events") in found
    for_admins = {(method, path) for method, path in found if permission_for(method, path) == "administer"}
    assert for_admins == {("POST", "/v1/rollback"), ("POST", "/v1/tokens"), ("POST", "/v1/tokens/{name}/revoke")}


def test_a_refused_decision_is_in_the_audit_log_and_strangers_cannot_flood_it(guarded: Guarded) -> None:
    path = "/v1/challengers/2/approve"
    before = len(audit.entries(guarded.state))
    guarded.client.post(path, json={"reason": "x"}, headers=guarded.bearer("viewer"))
    for _ in range(20):
        guarded.client.post(path, json={"reason": "x"})
    new = audit.entries(guarded.state)[before:]
    assert [(entry.actor, entry.action, entry.subject) for entry in new] == [
        ("the viewer", "call-refused", path),
        ("-", "call-refused", path),
    ]
    assert "the viewer is viewer; this needs approver or admin" in new[0].details["error"]
    assert audit.verify(guarded.state).ok


def test_a_decision_is_signed_with_the_token_s_name_only(guarded: Guarded) -> None:
    path, body = "/v1/challengers/2/reject", {"reason": "no", "actor": "somebody else"}
    answer = guarded.client.post(path, json=body, headers=guarded.bearer("approver"))
    assert answer.status_code == 403
    assert "the token is the approver's, the decision is signed 'somebody else'" in answer.json()["error"]["message"]
    assert audit.entries(guarded.state)[-1].action == "reject-refused"


def test_a_revoked_token_opens_nothing(guarded: Guarded) -> None:
    assert guarded.client.get("/v1/challengers", headers=guarded.bearer("viewer")).status_code == 200
    revoke_token(guarded.state, "the viewer", "root", NOW)
    assert guarded.client.get("/v1/challengers", headers=guarded.bearer("viewer")).status_code == 401


def test_signing_in_keeps_the_token_in_a_cookie_that_scripts_and_other_sites_cannot_use(guarded: Guarded) -> None:
    client = guarded.client
    assert client.get("/v1/session").json()["required"] is True
    assert client.post("/v1/session", json={"token": "pst_wrong"}).status_code == 401
    signed = client.post("/v1/session", json={"token": guarded.tokens["approver"]})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/v1/challengers").status_code == 200
    session = client.get("/v1/session").json()
    assert session["caller"] == {"name": "the approver", "role": "approver"}
    assert session["may"] == ["ask", "decide", "read"]
    client.delete("/v1/session")
    assert client.get("/v1/challengers").status_code == 401


def test_tokens_over_http(guarded: Guarded) -> None:
    admin = guarded.bearer("admin")
    made = guarded.client.post("/v1/tokens", json={"name": "eve", "role": "viewer"}, headers=admin)
    assert made.status_code == 201
    eve = {"Authorization": f"Bearer {made.json()['token']}"}
    assert guarded.client.get("/v1/challengers", headers=eve).status_code == 200
    listed = guarded.client.get("/v1/tokens", headers=admin)
    assert [one["name"] for one in listed.json()["tokens"]] == [*(f"the {role}" for role in ROLES), "eve"]
    assert made.json()["token"] not in listed.text
    assert guarded.client.post("/v1/tokens/eve/revoke", json={}, headers=admin).status_code == 200
    assert guarded.client.get("/v1/challengers", headers=eve).status_code == 401
    assert guarded.client.post("/v1/tokens/eve/revoke", json={}, headers=admin).status_code == 404


def test_without_any_token_this_machine_may_do_everything_but_make_one(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFRESH_S", 0.0)
    monkeypatch.setattr(access, "WAIT_S", 30.0)  # a busy machine must not make the tokens of before stand in
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    registry = FakeRegistry(tmp_path)
    runtime = Runtime(registry, FakeJournal(), loader({}), 60.0, state, Decisions(registry, state), lambda: NOW)
    with TestClient(create_app(runtime, settings)) as client:
        session = client.get("/v1/session").json()
        assert (session["required"], session["caller"]) == (False, None)
        assert "administer" in session["may"]
        assert client.get("/v1/challengers").status_code == 200
        refused = client.post("/v1/tokens", json={"name": "eve", "role": "admin"})
        assert refused.status_code == 409
        assert "penstock token create" in refused.json()["error"]["message"]
        create_token(state, "ada", "viewer", "root", NOW)
        assert client.get("/v1/challengers").status_code == 401, "the first token switches them on at once"
    state.engine.dispose()


def test_the_last_known_tokens_stand_while_the_state_database_is_away(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.errors import StateError

    def away(state: State) -> None:
        raise StateError("away")

    assert guarded.client.post("/v1/recommendations", json={}, headers=guarded.bearer("feeder")).status_code == 200
    monkeypatch.setattr(access, "read_keys", away)
    assert guarded.client.post("/v1/recommendations", json={}, headers=guarded.bearer("feeder")).status_code == 200
    assert guarded.client.post("/v1/recommendations", json={}).status_code == 401


def test_a_state_database_that_hangs_holds_nobody_up(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hanging(state: State) -> Keys:
        released.wait(300)
        return read_keys(state)

    ask = {"json": {}, "headers": guarded.bearer("feeder")}
    assert guarded.client.post("/v1/recommendations", **ask).status_code == 200  # type: ignore[arg-type]
    monkeypatch.setattr(access, "read_keys", hanging)
    monkeypatch.setattr(access, "WAIT_S", 0.01)
    began_s = time.monotonic()
    for _ in range(5):
        assert guarded.client.post("/v1/recommendations", **ask).status_code == 200  # type: ignore[arg-type]
    assert time.monotonic() - began_s < 60, "five requests, none of which waited for the database"
    released.set()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "shop.example.org", "::", ""])
def test_other_machines_are_let_in_only_where_somebody_has_a_token(tmp_path: Path, host: str) -> None:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    with pytest.raises(SettingsError, match="penstock token create"):
        check_host(host, state)
    create_token(state, "ada", "admin", "root", NOW)
    check_host(host, state)
    revoke_token(state, "ada", "root", NOW)
    with pytest.raises(SettingsError, match="nobody has a token"):
        check_host(host, state)
    state.engine.dispose()


def test_on_a_wide_host_nobody_is_let_in_without_a_token_and_any_name_of_the_host_will_do(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFRESH_S", 0.0)
    monkeypatch.setattr(access, "WAIT_S", 30.0)  # a busy machine must not make the tokens of before stand in
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    registry = FakeRegistry(tmp_path)
    runtime = Runtime(registry, FakeJournal(), loader({}), 60.0, state, Decisions(registry, state), lambda: NOW)
    with TestClient(
        create_app(runtime, settings.override({"service.host": "0.0.0.0"})), base_url="http://shop.example.org"
    ) as client:
        assert client.get("/v1/challengers").status_code == 401
        token = create_token(state, "ada", "viewer", "root", NOW)
        assert client.get("/v1/challengers", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    state.engine.dispose()


def test_the_first_requests_of_all_wait_for_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    slow = access.read_keys

    def read(of: State) -> Keys:
        time.sleep(0.05)
        return slow(of)

    monkeypatch.setattr(access, "read_keys", read)
    keyring = access.Keyring(state, wide=False)

    async def all_at_once() -> list[Keys]:
        return await asyncio.gather(*(keyring.current() for _ in range(4)))

    assert [keys.required for keys in asyncio.run(all_at_once())] == [False] * 4
    state.engine.dispose()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_token(tmp_path: Path, host: str) -> None:
    state = open_state(f"sqlite:///{tmp_path}/state.db")
    check_host(host, state)
    state.engine.dispose()
