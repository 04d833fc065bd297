import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from console_bench import EVIL, ConsoleBench, empty_mlflow, make, with_a_past
from fastapi.testclient import TestClient
from serving_fakes import NOW

from penstock.data.journal import Journal
from penstock.data.state import rounds
from penstock.registry.audit import append, entries
from penstock.registry.tables import audit
from penstock.serving.console_compare import Shelf
from penstock.serving.console_data import ReasonCount, docs_file, reason_counts
from penstock.serving.console_pages import CONSOLE, console_files


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_mlflow(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def empty(tmp_path: Path, mlflow: Path) -> Iterator[ConsoleBench]:
    bench = make(tmp_path, mlflow)
    yield bench
    bench.state.engine.dispose()


@pytest.fixture
def bench(empty: ConsoleBench) -> ConsoleBench:
    """For a test that changes something."""
    return with_a_past(empty)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, mlflow: Path) -> Iterator[TestClient]:
    """Of a loop that every test only looks at."""
    bench = with_a_past(make(tmp_path_factory.mktemp("looked-at"), mlflow))
    yield TestClient(bench.app, raise_server_exceptions=False)
    bench.state.engine.dispose()


def test_an_empty_loop_fills_every_page(empty: ConsoleBench) -> None:
    client = TestClient(empty.app)
    loop = client.get("/v1/console/loop").json()["loop"]
    assert loop["freshness"] == {"objective_s": 1200.0, "last_s": None, "waiting_s": None, "steps": []}
    assert (loop["curve"], loop["markers"], loop["stages"]) == ([], [], [])
    assert client.get("/v1/console/versions").json()["versions"] == []
    assert client.get("/v1/console/data").json()["data"]["snapshots"] == []
    assert client.get("/v1/console/history").json()["history"]["entries"] == []


def test_freshness_is_told_by_its_steps(client: TestClient) -> None:
    loop = client.get("/v1/console/loop").json()["loop"]
    steps = [(step["name"], step["seconds"]) for step in loop["freshness"]["steps"]]
    assert steps == [
        ("gathered in the journal", 100.0),
        ("waited for a round, validated", 10.0),
        ("learned, exported, judged", 30.0),
        ("waited for a decision", 20.0),
    ]
    assert loop["freshness"]["last_s"] == 160.0
    assert loop["freshness"]["waiting_s"] == 300.0, "the one event that no snapshot holds, accepted five minutes ago"


def test_fresh_and_stale_come_from_the_gate_reports(client: TestClient) -> None:
    loop = client.get("/v1/console/loop").json()["loop"]
    found = [(one["version"], one["outcome"], one["fresh"], one["stale"]) for one in loop["curve"]]
    assert found == [("1", "waiting", 0.61, None), ("2", "refused", 0.50, 0.62), ("3", "waiting", 0.66, 0.62)]
    assert [(one["version"], one["kind"]) for one in loop["markers"]] == [("1", "promote")]
    assert loop["stages"] == [{"name": "learning", "seconds": 4.0}, {"name": "export", "seconds": 2.0}]


def test_a_round_taken_up_again_keeps_its_place_in_the_curve(bench: ConsoleBench) -> None:
    with bench.state.write() as conn:
        conn.execute(sa.update(rounds).where(rounds.c.version == "3").values(ended_at=None, result=None))
    loop = TestClient(bench.app).get("/v1/console/loop").json()["loop"]
    assert [one["version"] for one in loop["curve"]] == ["1", "2", "3"]
    assert loop["stages"], "those of the last round that ended"


def test_a_version_leads_to_its_data_gates_and_approver(client: TestClient) -> None:
    listed = client.get("/v1/console/versions").json()["versions"]
    assert [(one["number"], one["status"]) for one in listed] == [
        ("3", "challenger"), ("2", "refused"), ("1", "champion")
    ]  # fmt: skip
    assert listed[1]["refusals"] == "ndcg_vs_champion"
    assert [one["parent"] for one in listed] == ["1", "1", None]
    detail = client.get("/v1/console/versions/1").json()["detail"]
    assert detail["lineage"]["snapshot_id"] == detail["snapshot"]["snapshot_id"] == "s1"
    assert detail["snapshot"]["rows"] == 100
    assert [point["value"] for point in detail["curves"]["loss"]] == [3.0, 2.0, 1.0]
    assert [gate["slice"] for gate in detail["report"]["gates"]] == ["all", "new users"]
    assert [(one["what"], one["who"]) for one in detail["decisions"]] == [("approve", "Ada"), ("promote", "Ada")]
    assert detail["round"]["metrics"] == {"loss": 1.25}
    unknown = client.get("/v1/console/versions/99")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_version")


def test_two_versions_answer_for_the_same_user(bench: ConsoleBench) -> None:
    client = TestClient(bench.app)

    def asked(versions: str) -> dict[str, object]:
        return client.get("/v1/console/compare", params={"versions": versions, "user_id": "u9", "k": 5}).json()

    before = asked("1,3")
    assert [one["number"] for one in before["lists"]] == ["1", "3"]
    assert before["shared"] == 5
    assert not before["lists"][1]["known_user"]
    click = {"event_id": "c1", "user_id": "u9", "item_id": "i7", "kind": "click"}
    assert client.post("/v1/events", json=click).json()["accepted"] == 1
    after = asked("1,3")
    assert after["lists"][1]["known_user"], "a version that does not serve sees the click as well"
    assert after["lists"][1]["items"] != before["lists"][1]["items"]


@pytest.mark.parametrize(("versions", "status"), [("1,99", 404), ("1,2,3,4", 422), ("", 422), ("one", 422)])
def test_what_cannot_be_compared(client: TestClient, versions: str, status: int) -> None:
    answer = client.get("/v1/console/compare", params={"versions": versions})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_a_version_whose_bundle_was_removed_says_so(bench: ConsoleBench) -> None:
    shutil.rmtree(bench.registry.bundle_dir(bench.registry.version("2")))
    answer = TestClient(bench.app).get("/v1/console/compare", params={"versions": "1,2"})
    assert answer.status_code == 410
    assert "version 2's bundle is not kept any more" in answer.json()["error"]["message"]
    assert str(bench.root) not in answer.text


def test_the_shelf_lets_the_oldest_go(bench: ConsoleBench) -> None:
    loaded: list[str] = []
    original: Callable[..., object] = bench.runtime.bring_up
    bench.runtime.bring_up = lambda number, *rest: (loaded.append(number), original(number, *rest))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    shelf = Shelf(bench.runtime, kept=1)
    for number in ("2", "2", "3", "2"):
        assert shelf.of(number).version == number
    assert shelf.of("1") is bench.runtime.current(), "what serves is never loaded twice"
    assert loaded == ["2", "3", "2"]


def test_the_datas_page(client: TestClient) -> None:
    data = client.get("/v1/console/data").json()["data"]
    rows = {one["snapshot_id"]: one for one in data["snapshots"]}
    assert list(rows) == ["s1", "s2", "s3", "s4"]
    assert (rows["s3"]["bad_share"], rows["s3"]["late_share"], rows["s3"]["click_rate"]) == (0.05, 0.25, 0.125)
    assert rows["s2"]["bad_share"] == 1.0, "the whole snapshot was put aside"
    assert rows["s1"]["rows_per_minute"] == 10.0
    assert data["reasons"] == [{"reason": f"bad rows {EVIL}", "rows": 1}]
    assert client.get(rows["s1"]["docs"]).text == "<h1>Data Docs of s1</h1>"
    assert rows["s3"]["docs"] is None


def test_reasons_that_differ_in_figures_only_are_one() -> None:
    weigh = [f"weighs {weight}, expected at most 30 of item-7" for weight in ("32.0", "35.5", "32.0")]
    assert reason_counts(["no item", *weigh, "no item 4"]) == [
        ReasonCount(reason="weighs …, expected at most 30 of item-7", rows=3),
        ReasonCount(reason="no item", rows=1),
        ReasonCount(reason="no item 4", rows=1),
    ]
    assert reason_counts([]) == []


def test_data_docs_begin_with_what_was_found(bench: ConsoleBench) -> None:
    def shown() -> str | None:
        return TestClient(bench.app).get("/v1/console/data").json()["data"]["snapshots"][0]["docs"]

    assert shown() == "/data-docs/s1/index.html"
    found = bench.root / "rounds" / "r-s1" / "data-docs" / "validations" / "s1" / "run"
    found.mkdir(parents=True)
    (found / "page.html").write_text("<h1>found</h1>")
    assert shown() == "/data-docs/s1/validations/s1/run/page.html"
    assert "found" in TestClient(bench.app).get(shown() or "").text


@pytest.mark.parametrize(
    "path", ["/data-docs/s1/../../../state.db", "/data-docs/s1/..%2F..%2F..%2Fstate.db", "/data-docs/..%2F/index.html",
             "/data-docs/s9/index.html", "/data-docs/s1/index.txt"]
)  # fmt: skip
def test_data_docs_lead_nowhere_else(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_data_docs_do_not_follow_a_link_out(bench: ConsoleBench) -> None:
    (bench.root / "secret.html").write_text("no")
    (bench.root / "rounds" / "r-s1" / "data-docs" / "out.html").symlink_to(bench.root / "secret.html")
    assert docs_file(bench.settings, "s1", "out.html") is None


def test_replay_sends_the_snapshots_events_back(bench: ConsoleBench) -> None:
    client = TestClient(bench.app)
    journal = Journal(bench.state, bench.settings.data)
    assert journal.pending() == 1
    order = {"ids": [1], "actor": "Grace", "reason": "the exporter is repaired"}
    done = client.post("/v1/quarantine/replay", json=order).json()
    assert (done["entries"], done["released"]) == (1, 3)
    assert journal.pending() == 4
    entry = entries(bench.state)[-1]
    assert (entry.actor, entry.action, entry.details["reason"]) == (
        "Grace", "quarantine replay", "the exporter is repaired"
    )  # fmt: skip
    again = client.post("/v1/quarantine/replay", json=order)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_held")


@pytest.mark.parametrize(
    "order",
    [{"ids": [1], "reason": "x"}, {"actor": "G", "reason": "x"}, {"ids": [1], "snapshot_id": "s2", "actor": "G",
      "reason": "x"}, {"ids": [0], "actor": "G", "reason": "x"}, {"ids": [1], "actor": "G", "reason": " "}],
)  # fmt: skip
def test_settling_needs_a_name_a_reason_and_entries(client: TestClient, order: dict[str, object]) -> None:
    assert client.post("/v1/quarantine/waive", json=order).status_code == 422


def test_history_tells_everything_newest_first(bench: ConsoleBench) -> None:
    client = TestClient(bench.app)
    client.post("/v1/challengers/3/approve", json={"actor": "Grace", "reason": "slices look fine"})
    client.post("/v1/challengers/3/approve", json={"actor": "Grace", "reason": "again"})
    history = client.get("/v1/console/history").json()["history"]
    kinds = [(one["kind"], one["version"]) for one in history["entries"]]
    assert kinds[:3] == [("approve-refused", "3"), ("promote", "3"), ("approve", "3")]
    assert {("refused", "2"), ("asked", "3"), ("quarantined", None), ("promote", "1")} <= set(kinds)
    promoted = history["entries"][1]
    assert (promoted["who"], promoted["why"], promoted["previous"]) == ("Grace", "slices look fine", "1")
    assert history["audit_ok"]
    with bench.state.write() as conn:
        conn.execute(sa.update(audit).where(audit.c.seq == 2).values(actor="Mallory"))
    assert not client.get("/v1/console/history").json()["history"]["audit_ok"]


def test_history_names_what_was_settled_and_put_right(bench: ConsoleBench) -> None:
    client = TestClient(bench.app)
    client.post("/v1/quarantine/waive", json={"ids": [1], "actor": "Grace", "reason": "a test of ours"})
    with bench.state.write() as conn:
        append(conn, "penstock", "reconcile", "registry", {"repairs": ["alias champion: 1 -> 3"]}, NOW)
    told = client.get("/v1/console/history").json()["history"]["entries"]
    found = [(one["kind"], one["version"], one["about"], one["why"]) for one in told[:2]]
    assert found == [
        ("reconcile", None, "registry", "alias champion: 1 -> 3"),
        ("quarantine waive", None, "s2", "a test of ours"),
    ]


def test_no_link_decides(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    deciding = [path for path in paths if re.search(r"approve|reject|quarantine|rollback", path)]
    assert len(deciding) >= 3
    assert all(set(paths[path]) == {"post"} for path in deciding)
    before = client.get("/v1/status").json()["version"]
    for path in ("/v1/challengers/3/approve", "/v1/challengers/3/reject", "/v1/quarantine/replay"):
        assert client.get(path).status_code == 405
    assert client.get("/v1/status").json()["version"] == before


def test_every_script_is_there_and_none_makes_markup_of_text() -> None:
    scripts = {name: path.read_text(encoding="utf-8") for name, path in console_files().items() if name.endswith(".js")}
    assert "main.js" in scripts
    for name, script in scripts.items():
        for wanted in re.findall(r'from "\./([^"]+)"', script):
            assert wanted in scripts, f"{name} imports {wanted}"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script), (
            name
        )
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script), name
    page = (CONSOLE / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert not re.search(r"\son[a-z]+=|style=", page), "the page's policy forbids inline scripts and styles"
