"""Names that try to leave their folder, against every name that reaches a path."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from fault_trials import FULL
from registry_bench import settings_under
from serving_fakes import FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, loader

from penstock.data.dataset import read_dataset
from penstock.data.snapshot import find_snapshot
from penstock.data.state import open_state
from penstock.errors import PenstockError
from penstock.inference.bundle import MANIFEST, load_bundle, write_manifest
from penstock.registry.store import open_registry
from penstock.registry.tracking import RoundTracker
from penstock.serving.app import create_app
from penstock.serving.runtime import Runtime

UP = ("..", "../..", "../../..", "....//", "..%2f", "%2e%2e/", "..\\", "..%5c", ".%00./", "~", "/", "//", "file:///")
END = ("etc/passwd", "secret.txt", "state.db", "manifest.json", "", ".", "x\0y", "bundle/text.onnx", "con", "a" * 300)
WRAP = ("{0}/{1}", "{0}{1}", "x/{0}/{1}", "{1}/{0}/{1}")
NAMES = sorted({form.format(up, end) for up, end, form in itertools.product(UP, END, WRAP)})
"""520 names, none of which names anything inside."""


def test_there_are_enough_names() -> None:
    assert len(NAMES) >= 500


def refused(call: Callable[[], object]) -> bool:
    """True when the name is an error of ours, whose message is for people."""
    try:
        call()
    except PenstockError:
        return True
    except ValueError as error:  # what pathlib and sqlite say to a NUL
        return "null" in str(error)
    return False


def test_no_name_reaches_outside_the_registry_or_the_snapshots(
    tmp_path: Path, figures: dict[str, dict[str, object]]
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    home = tmp_path / "inside" / "home"
    home.mkdir(parents=True)
    settings = settings_under(home)
    state = open_state(settings.state.url)
    state.ensure()
    registry = open_registry(settings, state)
    names = NAMES if FULL else NAMES[::5]
    for name in names:
        assert refused(lambda: registry.version(name)), name  # noqa: B023
        assert refused(lambda: find_snapshot(state, name)), name  # noqa: B023
        assert refused(lambda: RoundTracker(settings, name, registry.backend)), name  # noqa: B023
    state.engine.dispose()
    assert {path.name for path in tmp_path.iterdir()} == {"secret.txt", "inside"}
    assert {path.name for path in (tmp_path / "inside").iterdir()} == {"home"}
    figures["traversal names"] = {
        "names": len(names),
        "against": "versions, snapshots, rounds, bundles, HTTP",
        "escapes": 0,
    }


def test_no_name_in_a_bundle_reaches_outside_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("text.onnx", "classify.onnx", "tokenizer.json", "items.parquet"):
        (folder / name).write_bytes(b"x")
    write_manifest(folder, {"task": "classify", "model": {"labels": []}})
    whole = json.loads((folder / MANIFEST).read_text())
    for name in NAMES:
        (folder / MANIFEST).write_text(json.dumps({**whole, "files": {**whole["files"], name: "0" * 64}}))
        assert refused(lambda: load_bundle(folder)), name


def test_no_name_in_an_address_reaches_a_file(tmp_path: Path) -> None:
    from penstock.settings import load_settings

    (tmp_path / "secret.txt").write_text("root:secret")
    registry, scorers = FakeRegistry(tmp_path), {"first": FakeScorer("first")}
    runtime = Runtime(registry, FakeJournal(), loader(scorers), 60.0, None, FakeDecisions(registry))
    registry.serve("1", "first")
    runtime.poll()
    settings = load_settings(Path(__file__).parents[2] / "params.yaml", {})
    client = TestClient(create_app(runtime, settings), raise_server_exceptions=False)
    for name in NAMES[::7]:
        for prefix in ("/console/", "/reports/", "/v1/items/", "/static/", "/"):
            answer = client.get("http://testserver" + prefix + quote(name, safe="/%.~\\:"))
            assert "secret" not in answer.text, prefix + name
            assert answer.status_code != 500, prefix + name
    client.close()


def test_a_dataset_is_only_what_lies_in_its_folder(tmp_path: Path) -> None:
    for name in NAMES[::11]:
        with pytest.raises((PenstockError, ValueError)):
            read_dataset(tmp_path / "data" / name, 1000)
