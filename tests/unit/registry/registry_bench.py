"""What the registry's tests share: fake bundles that are cheap to make and to check, and a registry around them."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.data.state import State
from penstock.errors import BundleError
from penstock.records import GateReport, GateResult, Lineage
from penstock.registry.promotion import Promotion, approve, promote
from penstock.registry.store import Registry
from penstock.registry.versions import Version
from penstock.settings import Settings, load_settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def check_fake(folder: Path) -> str:
    """Digest of a fake bundle: one payload, and a manifest that holds its sha256."""
    try:
        digest = hashlib.sha256((folder / "payload.bin").read_bytes()).hexdigest()
        stated = (folder / "manifest.txt").read_text()
    except OSError as error:
        raise BundleError(f"{folder}: {error}") from error
    if digest != stated:
        raise BundleError(f"{folder}: payload has digest {digest[:12]}, manifest says {stated[:12]}")
    return digest


def make_bundle(folder: Path, payload: bytes) -> Path:
    """A fake bundle."""
    folder.mkdir(parents=True)
    (folder / "payload.bin").write_bytes(payload)
    (folder / "manifest.txt").write_text(hashlib.sha256(payload).hexdigest())
    return folder


def make_report(challenger: str, champion: str | None, passed: bool = True, observed: float = 0.02) -> GateReport:
    """A report with one gate."""
    gate = GateResult("ndcg", "ndcg@10", "all", ">=", -0.01, observed, -0.005, 0.04, passed, "paired bootstrap")
    return GateReport(challenger, champion, "snapshot-1", NOW.isoformat(), 200, 50, (gate,))


def make_lineage(round_id: str = "round-1") -> Lineage:
    """A complete lineage."""
    return Lineage(
        task="rank",
        round_id=round_id,
        snapshot_id="snapshot-1",
        data_sha256="d" * 64,
        parent_version=None,
        git_commit="c" * 40,
        params_sha256="p" * 64,
        seed=7,
        learned_until=NOW - timedelta(minutes=3),
        libraries={"numpy": "2", "torch": "2.13.0"},
    )


@dataclass
class Bench:
    """A registry, its state, and shortcuts for what most tests begin with."""

    root: Path
    settings: Settings
    state: State
    registry: Registry
    made: int = field(default=0)

    def challenger(self, *, passed: bool = True, champion: str | None = "now") -> Version:
        """Register a new bundle, judged against the present champion."""
        self.made += 1
        bundle = make_bundle(self.root / f"export-{self.made}", f"weights {self.made}".encode())
        pointer = self.registry.champion_pointer()
        against = (None if pointer is None else pointer.digest) if champion == "now" else champion
        report = make_report(check_fake(bundle), against, passed)
        return self.registry.register(bundle, report, make_lineage(f"round-{self.made}"), {}, now=NOW)

    def champion(self) -> Version:
        """Register, approve and promote a new bundle."""
        version = self.challenger()
        self.promote(version)
        return self.registry.version(version.number)

    def promote(self, version: Version) -> Promotion:
        """Approve and promote against the present champion."""
        serving = self.serving()
        approve(self.registry, self.state, version.number, "ada", "looks right", NOW)
        return promote(self.registry, self.state, version.number, "ada", "looks right", serving, NOW)

    def serving(self) -> str | None:
        """Number of the champion by the state database."""
        pointer = self.registry.champion_pointer()
        return None if pointer is None else pointer.number

    def alias(self, name: str) -> str | None:
        """Number behind an MLflow alias."""
        return self.registry.backend.aliases().get(name)


def settings_under(root: Path) -> Settings:
    """params.yaml with everything that is written placed under `root`, under the manual policy."""
    return load_settings(ROOT / "params.yaml", {}).override(
        {
            "state.home": str(root),
            "state.url": f"sqlite:///{root}/state.db",
            "registry.tracking_uri": f"sqlite:///{root}/mlflow.db",
            "registry.artifacts": str(root / "artifacts"),
            "data.user_key_file": f"{root}/keys/users.json",
            "promotion.policy": "manual",
        }
    )
