"""Erasing a user: rows, everything learned from them, and the proof by search that nothing is left.

What learned from the user goes as a whole: weights cannot be cleaned. Rounds start again from the newest checkpoint
that had not seen the user, or from the beginning, and learn every later snapshot anew, one scheduled round after the
other. The version that serves goes on until another replaces it, since an empty service helps nobody; erasing again
then removes it too.
"""

import configparser
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.data.dataset import EVENTS_FILE, replace_events
from penstock.data.erasure import ErasedRows, erase_rows
from penstock.data.journal import Journal
from penstock.data.pseudonyms import names_of
from penstock.data.publishing import published_places
from penstock.data.snapshot import list_snapshots
from penstock.data.state import State, snapshots
from penstock.data.traces import find_traces, holds, without_rows
from penstock.inference.bundle import MANIFEST
from penstock.pipeline.batch import ARTIFACTS
from penstock.pipeline.ledger import round_lease
from penstock.registry.approvals import reject
from penstock.registry.audit import ERASE, append
from penstock.registry.store import Registry
from penstock.registry.versions import Version
from penstock.settings import Settings

ROUNDS, CHECKPOINTS, NEWEST = "rounds", "checkpoints", "newest.json"
REMOTE = re.compile(r'remote "(.+)"')


@dataclass
class Erasure:
    """What became of a user.

    `learned_by`: versions that learned from them; `serving`: the one of these that serves until another replaces it;
    `relearn`: snapshots that rounds learn anew, from checkpoint `start`; `removed`: files and folders; `rewritten`: the
    dataset; `searched`, `left`: the proof; `not_searched`: places that only their owner can search.
    """

    id: str
    rows: ErasedRows
    learned_by: list[str] = field(default_factory=list)
    serving: str | None = None
    start: str | None = None
    relearn: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)
    not_searched: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def erase_user(
    settings: Settings, state: State, registry: Registry, user_id: str, actor: str, reason: str, project: Path = Path()
) -> Erasure:
    """Erase a user under every name they may have, while no round runs.

    Raises:
        LeaseHeld: a round is running; wait for its end.
        DataError, StateError, RegistryError: something could not be read or written; erase again.
        SettingsError: the key is lost, so the user cannot be found.
    """
    Journal(state, settings.data)  # tells of a key that does not fit the events
    names = names_of(settings.data, user_id)
    with round_lease(settings):
        done = Erasure(uuid.uuid4().hex, erase_rows(state, settings.state.home, names))
        tainted = set(done.rows.snapshots)
        _retire_versions(state, registry, done, names, tainted, actor)
        kept = _remove_learned(settings, done, names, tainted)
        _schedule(state, done, kept)
        cached, done.not_searched = copies_elsewhere(state, project)
        _clean_dataset(settings, done, names)
        bundles = (settings.registry.artifacts / "bundles").absolute()
        _remove_files(done, [settings.registry.artifacts / "reports", project / ARTIFACTS, *cached], names, bundles)
        own = [settings.state.home, settings.registry.artifacts, settings.data.dir, project / ARTIFACTS]
        roots = [*own, *_databases(settings), *cached]
        done.searched = [str(root) for root in dict.fromkeys(roots) if root.exists()]
        done.left = [str(path) for path in find_traces([Path(root) for root in done.searched], names)]
        _note(state, done, actor, reason)
    return done


def _retire_versions(
    state: State, registry: Registry, done: Erasure, names: Sequence[str], tainted: set[str], actor: str
) -> None:
    """List the versions that learned from the user; those that do not serve are rejected and their bundles removed."""
    champion = registry.champion_pointer()
    for version in registry.versions():
        bundle = registry.bundle_dir(version)
        if not _learned_from(version, bundle, names, tainted):
            continue
        done.learned_by.append(version.number)
        if champion is not None and champion.number == version.number:
            done.serving = version.number
            continue
        if version.status != "rejected":
            reject(registry, state, version.number, actor, f"erasure {done.id}", datetime.now(UTC))
        if champion is None or champion.digest != version.digest:
            _remove(done, bundle)


def _learned_from(version: Version, bundle: Path, names: Sequence[str], tainted: set[str]) -> bool:
    if version.lineage.snapshot_id in tainted:
        return True
    if not (bundle / MANIFEST).exists():
        return False
    rows = json.loads((bundle / MANIFEST).read_text(encoding="utf-8")).get("rows") or {}
    return bool(tainted & set(rows.get("snapshots", []))) or _any_holds(bundle, names)


def _remove_learned(settings: Settings, done: Erasure, names: Sequence[str], tainted: set[str]) -> set[str]:
    """Checkpoints and working folders of rounds that saw the user go; the newest clean checkpoint becomes the newest.

    Returns the snapshots that this one has taken in.
    """
    home = settings.state.home
    for folder in _folders(home / ROUNDS):
        if (
            folder.name.removeprefix("r-") in tainted
            or _saw(folder / "checkpoint", tainted)
            or _any_holds(folder, names)
        ):
            _remove(done, folder)
    root = home / CHECKPOINTS
    for folder in _folders(root):
        if _saw(folder, tainted) or _any_holds(folder, names):
            _remove(done, folder)
    clean = sorted(_folders(root), key=lambda folder: len(_taken_in(folder)))
    if clean:
        done.start = clean[-1].name
        part = root / f"{NEWEST}.part"
        part.write_text(json.dumps({"folder": done.start}))
        part.replace(root / NEWEST)
    else:
        (root / NEWEST).unlink(missing_ok=True)
    return set(_taken_in(clean[-1])) if clean else set()


def _schedule(state: State, done: Erasure, kept: set[str]) -> None:
    """Learned snapshots that the clean checkpoint has not taken in wait for a round again; none if none was removed."""
    if not any(Path(path).parent.name == CHECKPOINTS for path in done.removed):
        return
    anew = [one for one in list_snapshots(state, "learned") if one.snapshot_id not in kept and one.rows]
    done.relearn = [one.snapshot_id for one in anew]
    with state.write() as conn:
        if done.relearn:
            mine = snapshots.c.snapshot_id.in_(done.relearn)
            conn.execute(sa.update(snapshots).where(mine).values(status="closed"))


def copies_elsewhere(state: State, project: Path) -> tuple[list[Path], list[str]]:
    """Where copies lie: DVC's cache, its remotes, and wherever snapshots were published, as far as these are folders
    here; and the names of the other places."""
    config = configparser.ConfigParser()
    config.read([project / ".dvc" / "config", project / ".dvc" / "config.local"])
    remotes = {f"dvc:{REMOTE.findall(name)[0]}": config[name].get("url", "").strip("'\"")
               for name in config.sections() if REMOTE.search(name)}  # fmt: skip
    sent_to = [place for place in published_places(state) if place not in remotes]
    folders, elsewhere = [project / ".dvc" / "cache"], []
    for url in filter(None, [*remotes.values(), *sent_to]):
        scheme, divided, path = url.rpartition("://")
        if scheme in ("", "file") and not url.startswith("dvc:"):
            folders.append(Path(path) if divided else (project / ".dvc" / url).resolve())
        else:
            elsewhere.append(url)
    return [folder for folder in folders if folder.exists()], elsewhere


def _clean_dataset(settings: Settings, done: Erasure, names: Sequence[str]) -> None:
    """The events of data.dir, where the user is among them; DVC has to be told of the new file."""
    path = settings.data.dir / EVENTS_FILE
    kept = without_rows(path, names) if path.exists() and holds(path, names) else None
    if kept is not None:
        replace_events(settings.data.dir, kept)
        done.rewritten.append(str(path))


def _remove_files(done: Erasure, folders: Iterable[Path], names: Sequence[str], spared: Path) -> None:
    """Files that are named by their content or can be made again: those that hold the user are removed, none of those
    in `spared`."""
    for path in find_traces(folders, names):
        if not path.is_relative_to(spared):
            _remove(done, path)


def _note(state: State, done: Erasure, actor: str, reason: str) -> None:
    """What was done, without the user's names."""
    details: dict[str, Any] = asdict(done) | {"reason": reason, "removed": len(done.removed), "left": len(done.left)}
    with state.write() as conn:
        append(conn, actor, ERASE, f"erasure:{done.id}", details, datetime.now(UTC))


def _databases(settings: Settings) -> list[Path]:
    urls = [
        sa.make_url(url) for url in (settings.state.url, settings.registry.tracking_uri) if url.startswith("sqlite")
    ]
    return [Path(url.database).absolute() for url in urls if url.database]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _taken_in(checkpoint: Path) -> list[str]:
    path = checkpoint / "meta.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["snapshots"]) if path.exists() else []


def _saw(checkpoint: Path, tainted: set[str]) -> bool:
    return bool(tainted & set(_taken_in(checkpoint)))


def _any_holds(folder: Path, names: Sequence[str]) -> bool:
    return any(holds(path, names) for path in folder.rglob("*") if path.is_file())


def _remove(done: Erasure, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    else:
        return
    done.removed.append(str(path))
