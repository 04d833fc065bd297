"""A bundle is what its manifest says, to the bit, or it is not loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import BundleError
from penstock.inference.bundle import CLASSIFY_FILES, MANIFEST, load_bundle, sha256_of, verify_bundle, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier's bundle whose files hold bytes of no meaning; only hashes are looked at here."""
    folder = tmp_path / "bundle"
    (folder / "state").mkdir(parents=True)
    for index, name in enumerate((*CLASSIFY_FILES, "state/spec.json")):
        (folder / name).write_bytes(bytes([index]) * 100)
    write_manifest(folder, {"task": "classify", "model": {"labels": []}})
    return folder


def rewritten(folder: Path, change: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_whole_bundle_loads_and_its_digest_is_of_its_contents(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.task == "classify"
    assert bundle.digest == verify_bundle(folder)
    assert "state/spec.json" in bundle.manifest["files"]
    (folder / "text.onnx").write_bytes(b"other")
    assert write_manifest(folder, {"task": "classify", "model": {"labels": []}}) != bundle.digest


@pytest.mark.parametrize("name", [*CLASSIFY_FILES, "state/spec.json"])
@pytest.mark.parametrize("bit", [0, 7, 8 * 57 + 3, 8 * 99 + 7])
def test_a_flipped_bit_is_found(folder: Path, name: str, bit: int) -> None:
    data = bytearray((folder / name).read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} has sha256"):
        load_bundle(folder)


def test_a_truncated_file_and_a_missing_one_are_found(folder: Path) -> None:
    (folder / "text.onnx").write_bytes((folder / "text.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"text\.onnx has sha256"):
        load_bundle(folder)
    (folder / "text.onnx").unlink()
    with pytest.raises(BundleError, match=r"text\.onnx is missing"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["extra.onnx", "state/extra.json", "state/manifest.json", ".hidden", "weights.pkl"])
def test_a_file_that_the_manifest_does_not_cover_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(BundleError, match=r"not covered by the manifest"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname.json", "state/../../outside.json"])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside.json").write_text("{}")
    digest = sha256_of(folder.parent / "outside.json")
    rewritten(folder, lambda manifest: manifest["files"].update({name: digest}))
    with pytest.raises(BundleError, match="points outside the bundle"):
        load_bundle(folder)


def test_links_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "spec.json").write_bytes((folder / "state" / "spec.json").read_bytes())
    (folder / "state" / "spec.json").unlink()
    (folder / "state" / "spec.json").symlink_to(tmp_path / "elsewhere" / "spec.json")
    with pytest.raises(BundleError, match="points outside the bundle"):
        load_bundle(folder)
    (folder / "state" / "spec.json").unlink()
    (folder / "state").rmdir()
    (folder / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"state not covered|points outside"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["weights.pkl", "model.pt", "code.py", "weights.bin", "noname"])
def test_only_files_of_a_safe_kind_are_loaded_even_when_covered(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    write_manifest(folder, {"task": "classify"})
    with pytest.raises(BundleError, match=rf"{name} is not one of"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "expected schema"),
        ('{"schema": 2}', "expected schema"),
        ('{"schema": 1}', "no table"),
    ],
)
def test_a_manifest_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_no_manifest_means_incomplete(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(BundleError, match="incomplete"):
        load_bundle(folder)


def test_facts_are_covered_by_the_digest_and_needed_files_by_the_manifest(folder: Path) -> None:
    rewritten(folder, lambda manifest: manifest["model"].update(labels=["spam"]))
    with pytest.raises(BundleError, match="its contents give"):
        load_bundle(folder)
    (folder / "classify.onnx").unlink()
    write_manifest(folder, {"task": "classify"})
    with pytest.raises(BundleError, match=r"does not cover classify\.onnx"):
        load_bundle(folder)
