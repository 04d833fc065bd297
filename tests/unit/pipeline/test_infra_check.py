"""The fresh process: a good bundle is blessed, an altered one, a crash, silence and overtime are not."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from core_bench import small_settings

from penstock.evaluation.infra import InfraVerdict, infra_gate
from penstock.inference.bundle import load_bundle
from penstock.pipeline.infra_check import InfraCheck
from penstock.settings import Settings


def test_a_real_bundle_comes_up_and_an_altered_one_does_not(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    digest = load_bundle(rounds.bundle).digest
    with InfraCheck(rounds.shop.settings) as check:
        check.ask(rounds.bundle, digest)
        verdict = check.verdict()
    assert verdict.faults == ()
    assert (verdict.digest, verdict.answers) == (digest, 30)
    assert infra_gate(verdict, digest, 5000.0).passed
    altered = tmp_path / "bundle"
    shutil.copytree(rounds.bundle, altered)
    (altered / "vectors.safetensors").write_bytes(b"\0" * 100)
    with InfraCheck(rounds.shop.settings) as check:
        check.ask(altered, digest)
        verdict = check.verdict()
    assert "vectors.safetensors has sha256" in verdict.faults[0]
    assert not infra_gate(verdict, digest, 5000.0).passed


def asked(settings: Settings, folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> InfraVerdict:
    """The verdict when another program stands in for the check."""
    (folder / "stand_in.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with InfraCheck(settings, "stand_in") as check:
        check.ask(folder, "c" * 64)
        return check.verdict()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import os; os.abort()", "ended with signal 6"),
        ("import sys; sys.exit('no such library')", "ended with code 1, saying: no such library"),
        ("print('all is well')", "is no verdict"),
        ("print('{}')", "is no verdict"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_whatever_goes_wrong_refuses(source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_s = 1.0 if "sleep" in source else 60.0
    settings = small_settings(tmp_path, **{"gates.infra_timeout_s": limit_s})
    verdict = asked(settings, tmp_path, source, monkeypatch)
    assert says in verdict.faults[0]
    assert not infra_gate(verdict, "c" * 64, 50.0).passed


def test_the_process_gets_the_bundle_and_does_not_outlive_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"digest": "c" * 64, "faults": [], "answers": 3, "median_ms": 1.0, "slowest_ms": 2.0, "load_s": 0.1}
    source = (
        "import json, sys\n"
        "asked = json.loads(sys.stdin.readline())\n"
        f"print(json.dumps({good!r} | {{'digest': asked['digest'], 'answers': asked['candidates']}}))"
    )
    verdict = asked(small_settings(tmp_path), tmp_path, source, monkeypatch)
    assert (verdict.digest, verdict.answers) == ("c" * 64, 200)
    with pytest.raises(ZeroDivisionError), InfraCheck(small_settings(tmp_path), "stand_in") as check:
        raise ZeroDivisionError
    assert check._process.returncode is not None


def test_the_check_ends_quietly_when_it_is_asked_nothing() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "penstock.serving.infra_check"], input=b"", capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_verdict_is_read_as_it_was_written() -> None:
    tree = {"digest": None, "faults": ["the bundle does not come up: X"]}
    assert InfraVerdict.read(json.loads(json.dumps(tree))).faults == ("the bundle does not come up: X",)
    with pytest.raises(KeyError):
        InfraVerdict.read({"faults": []})
