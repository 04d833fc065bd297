"""Versions: whole, traceable, idempotent, and never visible half."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from registry_bench import NOW, Bench, check_fake, make_bundle, make_lineage, make_report

from penstock.errors import BundleError, RegistryError
from penstock.registry import audit
from penstock.registry.store import Registry


def test_a_version_leads_to_its_data_gates_and_bundle(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    report = make_report(check_fake(bundle), None)
    lineage = replace(make_lineage(), parent_version="4", learned_until=NOW)

    version = bench.registry.register(bundle, report, lineage, {"note": "first"}, run_id=None, now=NOW)
    shutil.rmtree(bundle)

    assert version == bench.registry.version("1")
    assert version.status == "challenger"
    assert version.lineage == lineage
    assert version.tags["note"] == "first"
    assert version.gate_verdict == "passed"
    assert version.report_digest == report.digest
    assert bench.registry.gate_report(version) == report
    assert check_fake(bench.registry.bundle_dir(version)) == version.digest
    assert bench.alias("challenger") == "1"
    assert bench.registry.champion() is None
    assert bench.registry.champion_pointer() is None
    (entry,) = audit.entries(bench.state, "version:1")
    assert (entry.action, entry.actor) == ("register", "penstock")
    assert entry.details["lineage.data_sha256"] == lineage.data_sha256


def test_the_same_bundle_of_the_same_round_is_one_version(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    report = make_report(check_fake(bundle), None)
    first = bench.registry.register(bundle, report, make_lineage(), {}, now=NOW)
    again = bench.registry.register(bundle, report, make_lineage(), {}, now=NOW)
    other = bench.registry.register(bundle, report, make_lineage("round-2"), {}, now=NOW)
    assert (first.number, again.number, other.number) == ("1", "1", "2")
    assert len(audit.entries(bench.state, "version:1")) == 1


def test_a_crash_while_registering_shows_nothing_and_can_be_repeated(
    bench: Bench, tmp_path: Path, reopened: Callable[[dict[str, object]], Registry]
) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    report = make_report(check_fake(bundle), None)
    calls = []

    def dies_on_the_copy(folder: Path) -> str:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return check_fake(folder)

    bench.registry.verify = dies_on_the_copy
    with pytest.raises(KeyboardInterrupt):
        bench.registry.register(bundle, report, make_lineage(), {}, now=NOW)
    assert bench.registry.versions() == []
    assert list((tmp_path / "artifacts" / "bundles").iterdir()) == []

    registry = reopened({})
    assert registry.register(bundle, report, make_lineage(), {}, now=NOW).number == "1"


def test_a_refused_or_unmeasured_version_is_kept_but_does_not_wait(bench: Bench, tmp_path: Path) -> None:
    refused = bench.challenger(passed=False)
    bundle = make_bundle(tmp_path / "unmeasured", b"unmeasured")
    unmeasured = bench.registry.register(bundle, None, make_lineage("round-x"), {}, now=NOW)
    assert (refused.status, refused.gate_verdict, refused.tags["penstock.gate_refusals"]) == (
        "refused",
        "refused",
        "ndcg",
    )
    assert (unmeasured.status, unmeasured.gate_verdict) == ("refused", "missing")
    assert bench.registry.gate_report(unmeasured) is None
    assert bench.registry.challengers() == []
    assert bench.alias("challenger") is None


def test_a_report_about_another_bundle_is_refused(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    with pytest.raises(RegistryError, match="is about bundle aaaaaaaaaaaa"):
        bench.registry.register(bundle, make_report("a" * 64, None), make_lineage(), {}, now=NOW)
    assert bench.registry.versions() == []


def test_a_broken_bundle_or_one_with_links_is_refused(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    (bundle / "link.onnx").symlink_to(bundle / "payload.bin")
    with pytest.raises(BundleError, match=r"link\.onnx is a link"):
        bench.registry.register(bundle, None, make_lineage(), {}, now=NOW)
    (bundle / "payload.bin").write_bytes(b"cut")
    with pytest.raises(BundleError, match="payload has digest"):
        bench.registry.register(bundle, None, make_lineage(), {}, now=NOW)


def test_a_kept_bundle_that_was_altered_is_not_registered_again(bench: Bench, tmp_path: Path) -> None:
    version = bench.challenger()
    (bench.registry.bundle_dir(version) / "payload.bin").write_bytes(b"altered")
    with pytest.raises(BundleError, match="payload has digest"):
        bench.registry.register(tmp_path / "export-1", None, make_lineage("round-9"), {}, now=NOW)


def test_reserved_tags_and_unknown_versions_say_so(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"'penstock\.digest' is reserved"):
        bench.registry.register(tmp_path, None, make_lineage(), {"penstock.digest": "x"})
    bench.challenger()
    for number in ("9", "one", "-1", "²"):
        with pytest.raises(RegistryError, match=f"no version '{number}'; there is 1"):
            bench.registry.version(number)


def test_an_altered_gate_report_is_found(bench: Bench) -> None:
    version = bench.challenger()
    folder = bench.registry.report_dir(version)
    assert folder is not None
    path = folder / "registered-report.json"
    tree = json.loads(path.read_text())
    tree["gates"][0]["threshold"] = -1.0
    path.write_text(json.dumps(tree))
    with pytest.raises(RegistryError, match="was altered"):
        bench.registry.gate_report(version)


def test_pages_of_the_report_are_kept_beside_it(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "export", b"weights")
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "gate-report.html").write_text("<h1>passed</h1>")
    report = make_report(check_fake(bundle), None, observed=float("nan"))
    version = bench.registry.register(bundle, report, make_lineage(), {}, report_dir=pages, now=NOW)
    folder = bench.registry.report_dir(version)
    assert folder is not None
    assert (folder / "gate-report.html").read_text() == "<h1>passed</h1>"
    kept = bench.registry.gate_report(version)
    assert kept is not None
    assert kept.digest == report.digest


def test_reconcile_repairs_what_mlflow_missed_and_says_what(bench: Bench) -> None:
    first = bench.champion()
    bench.registry.backend.set_alias("champion", None)
    bench.registry.backend.set_version_tag(first.number, "penstock.status", "challenger")
    assert bench.registry.reconcile(NOW) == [
        "alias champion: None -> 1",
        "version 1: status challenger -> champion",
    ]
    assert bench.alias("champion") == "1"
    assert bench.registry.reconcile(NOW) == []
    assert audit.entries(bench.state)[-1].action == "reconcile"


def test_opening_is_silent_and_writes_only_where_told(
    first_opening: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """A fresh database, in a fresh process: no stderr, no warning, no ./mlruns, no MLflow before it is needed."""
    root, run = first_opening
    assert (run.stderr, run.stdout, run.returncode) == ("", "", 0)
    assert [path.name for path in root.iterdir()] == ["var"]
    assert {path.name for path in (root / "var").iterdir()} >= {"mlartifacts", "mlflow.db", "state.db"}


def test_a_place_that_cannot_be_written_says_which(
    bench: Bench, tmp_path: Path, reopened: Callable[[dict[str, object]], Registry]
) -> None:
    (tmp_path / "file").write_text("")
    registry = reopened({"registry.artifacts": str(tmp_path / "file" / "artifacts")})
    with pytest.raises(RegistryError, match=r"file/artifacts cannot be made .* set registry\.artifacts"):
        registry.versions()


def test_a_database_that_cannot_be_opened_says_what_to_look_at(
    tmp_path: Path, reopened: Callable[[dict[str, object]], Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # MLflow itself tries for a minute and a half
    (tmp_path / "folder.db").mkdir()
    registry = reopened({"registry.tracking_uri": f"sqlite:///{tmp_path}/folder.db"})
    with pytest.raises(RegistryError, match=r"opening sqlite:.*unable to open database file.*see that it is there"):
        registry.versions()
