"""A bundle: the folder that is released as one, and the manifest that vouches for every byte of it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import BundleError

SCHEMA = 1
MANIFEST = "manifest.json"
RANK_FILES = ("text.onnx", "user.onnx", "rank.onnx", "tokenizer.json", "items.parquet", "vectors.safetensors")
CLASSIFY_FILES = ("text.onnx", "classify.onnx", "tokenizer.json", "items.parquet")
ROUNDED = "nearest.onnx"
"""The item vectors rounded, where there are many of them: see inference.index."""
SAFE_SUFFIXES = (".onnx", ".json", ".parquet", ".safetensors")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """sha256 over the names and hashes of all files."""
        return str(self.manifest["digest"])

    @property
    def task(self) -> str:
        """rank or classify."""
        return str(self.manifest["task"])


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: dict[str, str], facts: dict[str, Any]) -> str:
    """The bundle's digest: over every file's name and hash and the manifest's facts."""
    text = json.dumps({"files": files, "facts": facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any]) -> str:
    """Hash every file of `folder` and write the manifest last. Returns the digest."""
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    digest = digest_of(files, facts)
    text = json.dumps({"schema": SCHEMA, "digest": digest, "files": files, **facts}, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text)
    return digest


def load_bundle(folder: Path) -> Bundle:
    """Verify a bundle: every file listed, present, unaltered, of a safe kind, and nothing else in the folder.

    Raises:
        BundleError: naming the file, what was found and what was expected.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{folder}: no readable {MANIFEST} ({error.strerror}); the bundle is incomplete") from error
    except ValueError as error:
        raise BundleError(f"{folder / MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise BundleError(f"{folder / MANIFEST}: expected schema {SCHEMA}; this bundle is of another release")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise BundleError(f"{folder / MANIFEST}: no table of files")
    _check_files(folder, files)
    needed = RANK_FILES if manifest.get("task") == "rank" else CLASSIFY_FILES
    missing = [name for name in needed if name not in files]
    if missing:
        raise BundleError(f"{folder}: the manifest does not cover {', '.join(missing)}")
    facts = {key: value for key, value in manifest.items() if key not in ("schema", "digest", "files")}
    digest = digest_of(files, facts)
    if digest != manifest.get("digest"):
        raise BundleError(f"{folder}: the manifest's digest is {manifest.get('digest')}, its contents give {digest}")
    return Bundle(folder, manifest)


def _check_files(folder: Path, files: dict[str, str]) -> None:
    found_files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    present = {path.relative_to(folder).as_posix() for path in found_files}
    strange = sorted(present - set(files) - {MANIFEST})
    if strange:
        raise BundleError(f"{folder}: {', '.join(strange)} not covered by the manifest")
    for name, expected in files.items():
        path = folder / name
        if name.startswith("/") or ".." in Path(name).parts:
            raise BundleError(f"{folder}: {name} points outside the bundle")
        if path.suffix not in SAFE_SUFFIXES:
            raise BundleError(f"{folder}: {name} is not one of {', '.join(SAFE_SUFFIXES)}")
        if name not in present:  # looked up, not asked of the file system: a name may be longer than it allows
            raise BundleError(f"{folder}: {name} is missing")
        if path.is_symlink():
            raise BundleError(f"{folder}: {name} points outside the bundle")
        found = sha256_of(path)
        if found != expected:
            raise BundleError(f"{folder}: {name} has sha256 {found}, the manifest says {expected}")


def verify_bundle(folder: Path) -> str:
    """Digest of a bundle that verifies.

    Raises:
        BundleError: it does not.
    """
    return load_bundle(folder).digest
