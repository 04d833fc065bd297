"""What `penstock doctor` looks at. A check reads; the one thing it may create is the state database's tables."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from penstock.cli.answer import INSTALL
from penstock.errors import PenstockError, SettingsError

if TYPE_CHECKING:
    from penstock.settings import Settings

PYTHON = (3, 11)
DISK_NEEDED_MB = 500
DISK_COMFORTABLE_MB = 5000


class Check(NamedTuple):
    """One finding. `verdict`: ok, warning (works with less), or missing (essential)."""

    name: str
    verdict: Literal["ok", "warning", "missing"]
    found: str
    next_step: str = ""


def run_checks(service_only: bool) -> list[Check]:
    """Every check, in the order in which one would repair; those that need settings only when these can be read."""
    checks = [_python(), *_packages(service_only)]
    try:
        from penstock.settings import load_settings

        settings = load_settings()
    except ImportError as error:
        return [*checks, Check("params.yaml", "missing", f"cannot be read without {error.name}", INSTALL)]
    except SettingsError as error:
        return [*checks, Check("params.yaml", "missing", str(error), "correct the setting; the rest was not checked")]
    checks.append(Check("params.yaml", "ok", f"sha256 {settings.sha256()[:12]}"))
    if not service_only:
        checks += [_encoder(settings), _dataset(settings)]
    return [*checks, _gpu(), _onnxruntime(), _disk(settings), _state(settings)]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        return Check("Python", "missing", found, f"install Python {'.'.join(map(str, PYTHON))} or newer")
    return Check("Python", "ok", found)


def _packages(service_only: bool) -> Iterator[Check]:
    """Declared requirements against what is installed, and that against the pins of constraints.txt."""
    try:
        from packaging.requirements import Requirement

        declared = metadata.requires("penstock") or []
    except (ImportError, metadata.PackageNotFoundError) as error:
        yield Check("packages", "missing", f"penstock is not installed whole: {error}", INSTALL)
        return
    extras = [""] if service_only else ["", "learn"]
    pins = _pins(Path("constraints.txt"))
    count, unpinned = 0, []
    for text in declared:
        wanted = Requirement(text)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        count += 1
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Check(wanted.name, "missing", "not installed", INSTALL)
            continue
        pin = pins.get(_folded(wanted.name), found)
        if not wanted.specifier.contains(found, prereleases=True):
            yield Check(wanted.name, "missing", f"{found}, expected {wanted.specifier}", INSTALL)
        elif found.partition("+")[0] != pin.partition("+")[0]:
            unpinned.append(f"{wanted.name} {found} (tested: {pin})")
    if unpinned:
        yield Check("pinned versions", "warning", ", ".join(unpinned), INSTALL)
    yield Check("packages", "ok", f"{count} looked at")


def _pins(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip().partition("==") for line in path.read_text(encoding="utf-8").splitlines())
    return {_folded(name): version.split(";")[0].strip() for name, equal, version in lines if equal}


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _encoder(settings: "Settings") -> Check:
    name = settings.text.encoder
    try:
        from penstock.model.text_encoder import encoder_folder

        folder = encoder_folder(name)
    except ImportError as error:
        return Check("encoder", "missing", f"cannot be looked at without {error.name}", INSTALL)
    except (PenstockError, OSError) as error:
        return Check("encoder", "missing", f"{name}: {error}", INSTALL)
    if name == "minilm":
        return Check("encoder", "ok", "packaged all-MiniLM-L6-v2, its hash is the published one")
    if Path(folder).is_dir():
        return Check("encoder", "ok", f"folder {folder}")
    return Check(
        "encoder", "warning", f"{name} is no folder here", "transformers looks it up on Hugging Face or its cache"
    )


def _dataset(settings: "Settings") -> Check:
    folder = settings.data.dir
    if (folder / "dataset.json").is_file():
        return Check("data.dir", "ok", str(folder))
    return Check(
        "data.dir", "warning", f"{folder} holds no dataset.json", "`dvc pull`, `penstock import` or `penstock simulate`"
    )


def _gpu() -> Check:
    from penstock.inference.sessions import gpu_present

    return Check("GPU", "ok", "an NVIDIA GPU answers" if gpu_present() else "none; everything runs on the CPU, float32")


def _onnxruntime() -> Check:
    try:
        import onnxruntime
    except ImportError as error:
        return Check("onnxruntime", "missing", str(error), INSTALL)
    from penstock.inference.sessions import gpu_present

    providers = onnxruntime.get_available_providers()
    found = ", ".join(providers)
    if gpu_present() and "CUDAExecutionProvider" not in providers:
        return Check("onnxruntime", "warning", found, "pip install onnxruntime-gpu to serve on the GPU")
    return Check("onnxruntime", "ok" if "CPUExecutionProvider" in providers else "missing", found)


def _disk(settings: "Settings") -> Check:
    place = _existing(settings.state.home)
    free_mb = shutil.disk_usage(place).free // 2**20
    found = f"{free_mb} MiB free under {settings.state.home}"
    if free_mb < DISK_NEEDED_MB:
        return Check("disk", "missing", found, f"free {DISK_NEEDED_MB} MiB at least, or set state.home to another disk")
    tight = free_mb < DISK_COMFORTABLE_MB
    return Check("disk", "warning" if tight else "ok", found, "bundles and checkpoints need space" if tight else "")


def _state(settings: "Settings") -> Check:
    from penstock.data.state import open_state

    path = Path(settings.state.url.removeprefix("sqlite:///"))
    if settings.state.url.startswith("sqlite:") and not path.exists():
        place = _existing(path.absolute().parent)
        if place.is_dir() and os.access(place, os.W_OK):
            return Check("state database", "ok", f"{path} is not there yet, {place} can be written")
        return Check(
            "state database",
            "missing",
            f"{place} is no folder that can be written",
            "set state.url to a folder of yours",
        )
    try:
        state = open_state(settings.state.url)
        with state.write():
            pass
    except PenstockError as error:
        return Check("state database", "missing", str(error), "set state.url, or repair what is named")
    return Check("state database", "ok", f"{state.place} can be written")


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
