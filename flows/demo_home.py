"""Where the demo's state lives: var/, so that `make up` goes on from it, unless somebody else's state is there."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from penstock.errors import DataError
from penstock.settings import PREFIX, Settings, load_settings

MARKER = "demo.json"
DATA = "market"
FALLBACK = "demo"
STATE = "*.db"
PREFECT = "prefect"
KEYS = "keys"
CACHE = "graphs"  # of exported graphs; holds nothing that was learned


@dataclass(frozen=True)
class Home:
    """The demo's folder; `own` where `make up` finds it by itself."""

    folder: Path
    own: bool


def pulled(settings: Settings, project: Path = Path()) -> None:
    """Bring the bundled data here with `dvc pull` where they are missing.

    Raises:
        DataError: DVC could not bring them.
    """
    folder = project / settings.data.dir
    if folder.exists() or not (project / "data.dvc").exists():
        return
    command = [sys.executable, "-m", "dvc", "pull", "--quiet"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode or not folder.exists():
        said = (done.stderr or done.stdout).strip()[-500:] or "nothing"
        raise DataError(
            f"{folder}: the bundled data are missing and `dvc pull` ended with code {done.returncode}, saying: {said}; "
            "run it by hand, or make the data with `penstock simulate --into data/market`"
        )


def fresh_home(settings: Settings) -> Home:
    """An empty folder for the demo: the settings' home where it is free or the demo's own, else a folder inside it.

    Only a folder that carries the demo's marker is ever emptied, and none while a service answers on the port.
    """
    home = settings.state.home
    used = any(home.glob(STATE)) and not (home / MARKER).exists()
    own = not used and not port_taken(settings)
    folder = home if own else home / FALLBACK
    if (folder / MARKER).exists():
        for path in folder.iterdir():
            if path.is_dir() and path.name not in (CACHE, FALLBACK):
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    note = {"made": datetime.now(UTC).isoformat(), "by": "make demo, which empties this folder the next time"}
    (folder / MARKER).write_text(json.dumps(note | {"data_dir": str(folder / DATA)}))
    return Home(folder, own)


def point_at(home: Home, settings: Settings) -> None:
    """Let settings that are loaded from now on, here and in child processes, mean this folder; Prefect's own too."""
    folder = home.folder
    values = {
        "STATE__HOME": str(folder),
        "STATE__URL": f"sqlite:///{folder}/state.db",
        "REGISTRY__TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "REGISTRY__ARTIFACTS": str(folder / "mlartifacts"),
        "DATA__DIR": str(folder / DATA),
        "DATA__USER_KEY_FILE": str(folder / KEYS / "users.json"),
    }
    os.environ.setdefault("PREFECT_HOME", str((folder / PREFECT).resolve()))
    if port_taken(settings):
        values["SERVICE__PORT"] = str(free_port(settings.service.host))
    os.environ.update({PREFIX + name: value for name, value in values.items()})


def go_on_from_demo() -> bool:
    """Where the demo left its state in the settings' home, read the catalogue from there too; True when it did."""
    name = f"{PREFIX}DATA__DIR"
    marker = load_settings().state.home / MARKER
    if name in os.environ or not marker.exists():
        return False
    os.environ[name] = json.loads(marker.read_text())["data_dir"]
    os.environ.setdefault("PREFECT_HOME", str((marker.parent / PREFECT).resolve()))
    return True


def port_taken(settings: Settings) -> bool:
    """True when something listens on the service's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.service.host, settings.service.port))
        except OSError:
            return True
    return False


def free_port(host: str) -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
