"""Bundle folders under the artefact root, named by their digest: there whole, or not there."""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from penstock.errors import BundleError

Verify = Callable[[Path], str]
"""A bundle folder's digest; raises BundleError when it is incomplete or altered."""

INCOMING = ".incoming-"


def keep_bundle(source: Path, folder: Path, verify: Verify) -> str:
    """Copy a bundle to `folder`/<digest> and return the digest.

    The copy is made under a temporary name, verified there, synced, then renamed. A bundle that is already kept
    is verified instead of copied.

    Raises:
        BundleError: the source is no whole bundle, holds a link, or what is kept under its digest was altered.
    """
    digest = verify(source)
    target = folder / digest
    if target.exists():
        check_bundle(target, digest, verify)
        return digest
    links = [path.name for path in sorted(source.rglob("*")) if path.is_symlink()]
    if links:
        raise BundleError(f"{source}: {links[0]} is a link, expected plain files; export the bundle again")
    folder.mkdir(parents=True, exist_ok=True)
    incoming = folder / f"{INCOMING}{uuid.uuid4().hex}"
    try:
        shutil.copytree(source, incoming)
        check_bundle(incoming, digest, verify)
        _sync(incoming)
        try:
            incoming.rename(target)
        except OSError:
            # Two of the same digest at once: the other one came first, and must be whole.
            if not target.exists():
                raise
            check_bundle(target, digest, verify)
        _sync_folder(folder)
    finally:
        if incoming.exists():
            shutil.rmtree(incoming)
    return digest


def check_bundle(folder: Path, digest: str, verify: Verify) -> None:
    """Verify a folder against the digest it must have.

    Raises:
        BundleError: not there, incomplete, altered, or another bundle.
    """
    if not folder.is_dir():
        raise BundleError(
            f"bundle {digest[:12]} is not at {folder}: removed by registry.keep_served or keep_unserved, or lost; "
            "restore the artefact folder or register it again"
        )
    found = verify(folder)
    if found != digest:
        raise BundleError(
            f"{folder} holds bundle {found[:12]}, expected {digest[:12]}; it was altered, restore it from a backup"
        )


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
