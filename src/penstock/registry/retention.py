"""Bundles that nobody will need again are removed; what they were stays: version, gate report, lineage, audit log.

A round makes a bundle of some 25 MB (90 in float32), and a day has 144 rounds. Kept are the champion, the versions that
served last (for a rollback), the newest of those that never served (to compare, and to decide on), the newest
challenger however many refused ones followed it, and a rollout's challenger.
"""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from penstock.data.state import State
from penstock.registry.approvals import reject
from penstock.registry.audit import append
from penstock.registry.promotion import champion_lease
from penstock.registry.rollouts import running
from penstock.registry.store import Registry
from penstock.registry.versions import REQUESTER, Version

GOING = ".going-"


@dataclass(frozen=True)
class Pruned:
    """What was removed. `superseded`: challengers that still asked to serve, rejected first; `freed` in bytes."""

    versions: list[str]
    superseded: list[str]
    freed: int


def prune(registry: Registry, state: State, now: datetime, actor: str = REQUESTER) -> Pruned:
    """Remove the bundles beyond `registry.keep_served` and `registry.keep_unserved`.

    The lease of promotions is held, so nothing is removed while it is about to serve. A crash leaves a folder under
    another name, which the next call removes.

    Raises:
        LeaseHeld: a promotion is going on; the next call will do.
    """
    folder = registry.bundles_dir
    with champion_lease(registry, state, actor, now):
        versions = registry.versions()
        kept = needed(registry, state, versions)
        gone = [version for version in versions if version.digest not in kept and registry.bundle_dir(version).is_dir()]
        superseded = [version.number for version in gone if version.status == "challenger"]
        for number in superseded:
            why = f"superseded: {registry.settings.registry.keep_unserved} newer versions (registry.keep_unserved)"
            reject(registry, state, number, actor, why, now)
        if gone:
            with state.write() as conn:
                for version in gone:
                    append(conn, actor, "prune", f"version:{version.number}", {"digest": version.digest}, now)
        for digest in {version.digest for version in gone}:
            (folder / digest).rename(folder / f"{GOING}{digest}")
    freed = sum(_remove(path) for path in sorted(folder.glob(f"{GOING}*")))
    return Pruned([version.number for version in gone], superseded, freed)


def needed(registry: Registry, state: State, versions: list[Version]) -> set[str]:
    """Digests of the bundles that stay."""
    settings = registry.settings.registry
    served = [promotion.digest for promotion in registry.ledger().promotions]
    last_served = list(dict.fromkeys(reversed(served)))[: settings.keep_served + 1]  # the first of them serves
    unserved = [version.digest for version in versions if version.digest not in set(served)]
    newest = unserved[-settings.keep_unserved :]
    newest += [version.digest for version in versions if version.status == "challenger"][-1:]  # refused ones may follow
    rollout = running(state, registry.environment)
    return {*last_served, *newest, *([] if rollout is None else [rollout.digest])}


def _remove(folder: Path) -> int:
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return freed
