"""The registry: bundles as numbered versions, and who serves.

The state database is the authority for who serves; MLflow holds the versions and their tags, and its aliases
`champion` and `challenger` follow. A reader of the pointer never waits for MLflow.
"""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from penstock.data.state import State
from penstock.errors import RegistryError
from penstock.records import GateReport, Lineage
from penstock.registry.audit import Anchor, append, head
from penstock.registry.bundles import Verify, keep_bundle
from penstock.registry.ledger import Ledger, Promotion, read_champion, read_ledger
from penstock.registry.mlflow_backend import MlflowBackend, RawVersion
from penstock.registry.reports import keep_report, read_kept
from penstock.registry.tables import audit as audit_table
from penstock.registry.versions import (
    PREFIX,
    REQUESTER,
    STATUS_TAG,
    Version,
    binding_of,
    registration_tags,
    standing,
)
from penstock.settings import Settings

ANCHOR_TAG = f"{PREFIX}audit_head"


class Pointer(NamedTuple):
    """Which version serves, and where its bundle is. The reader verifies the bundle before it serves it."""

    number: str
    digest: str
    bundle_dir: Path


def verify_bundle(folder: Path) -> str:
    """Digest of a whole bundle; the default of Registry.verify.

    Raises:
        BundleError: incomplete or altered.
    """
    from penstock.inference.bundle import verify_bundle as verify

    return verify(folder)


def open_registry(settings: Settings, state: State, verify: Verify = verify_bundle) -> "Registry":
    """The registry of these settings; its tables are created, MLflow is opened when first needed.

    Args:
        verify: returns a bundle folder's digest or raises BundleError.
    """
    state.ensure()
    return Registry(settings, state, verify)


class Registry:
    """Versions of one model in one environment."""

    def __init__(self, settings: Settings, state: State, verify: Verify) -> None:
        self.settings = settings
        self.state = state
        self.verify = verify
        self.environment = settings.registry.environment
        self._artifacts = settings.registry.artifacts.absolute()
        self._opening = threading.Lock()
        self._backend: MlflowBackend | None = None

    @property
    def backend(self) -> MlflowBackend:
        """MLflow, opened once."""
        with self._opening:
            if self._backend is None:
                self._backend = MlflowBackend(self.settings.registry)
            return self._backend

    def register(
        self,
        bundle_dir: Path,
        report: GateReport | None,
        lineage: Lineage,
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        report_dir: Path | None = None,
        requester: str = REQUESTER,
        now: datetime | None = None,
    ) -> Version:
        """Keep a bundle and make it a version; the same bundle of the same round gives the same version again.

        Args:
            report: None means never measured: the version is kept as refused and cannot be promoted.
            tags: anything else to note; keys may not start with "penstock.".
            report_dir: folder with gate-report.html and the like, kept beside the report.

        Raises:
            BundleError: the bundle is not whole.
            RegistryError: the report is about another bundle, a reserved tag, or MLflow failed.
        """
        reserved = [key for key in tags if key.startswith(PREFIX)]
        if reserved:
            raise RegistryError(f"register: tag {reserved[0]!r} is reserved; choose a name not starting with {PREFIX}")
        digest = keep_bundle(bundle_dir, self.bundles_dir, self.verify)
        if report is not None:
            if report.challenger_digest != digest:
                raise RegistryError(
                    f"register: the gate report is about bundle {report.challenger_digest[:12]}, {bundle_dir} is "
                    f"{digest[:12]}; judge the bundle that is to be registered"
                )
            keep_report(report, report_dir, self._artifacts / "reports")
        raw = self._find(digest, lineage.round_id)
        if raw is None:
            own = registration_tags(digest, report, lineage, requester, run_id)
            own[STATUS_TAG], _ = standing("new", digest, own, self.ledger())
            raw = self.backend.create_version(self._bundle(digest), run_id, dict(tags) | own)
        self._note_registration(raw, requester, now or datetime.now(UTC))
        self._converge()
        return self.version(raw.number)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        raws, ledger = self.backend.versions(), self.ledger()
        return [_version(raw, ledger) for raw in raws]

    def version(self, number: str) -> Version:
        """One version.

        Raises:
            RegistryError: there is none of that number.
        """
        raw = self.backend.version(number)
        if raw is None:
            known = ", ".join(version.number for version in self.backend.versions()) or "none"
            raise RegistryError(f"registry {self.settings.registry.name}: no version {number!r}; there is {known}")
        return _version(raw, self.ledger())

    def champion(self) -> Version | None:
        """The version that serves, None before the first promotion."""
        with self.state.read() as conn:
            promotion = read_champion(conn, self.environment)
        return None if promotion is None else self.version(promotion.number)

    def challengers(self) -> list[Version]:
        """Versions that wait for a decision, oldest first."""
        return [version for version in self.versions() if version.status == "challenger"]

    def champion_pointer(self) -> Pointer | None:
        """Which version serves, from the state database alone: one row, made for polling."""
        with self.state.read() as conn:
            promotion = read_champion(conn, self.environment)
        if promotion is None:
            return None
        return Pointer(promotion.number, promotion.digest, self._bundle(promotion.digest))

    @property
    def bundles_dir(self) -> Path:
        """Where the bundles are kept, a folder for each digest."""
        return self._artifacts / "bundles"

    def bundle_dir(self, version: Version) -> Path:
        """Where a version's bundle is; the caller verifies it."""
        return self._bundle(version.digest)

    def report_dir(self, version: Version) -> Path | None:
        """Where a version's gate report is, None when it was never measured."""
        return None if version.report_digest is None else self._artifacts / "reports" / version.report_digest

    def gate_report(self, version: Version) -> GateReport | None:
        """A version's gate report, its digest verified; None when it was never measured.

        Raises:
            RegistryError: the kept report is missing or altered.
        """
        folder = self.report_dir(version)
        return None if folder is None else read_kept(folder)

    def ledger(self) -> Ledger:
        """Every promotion and rejection in this environment."""
        with self.state.read() as conn:
            return read_ledger(conn, self.environment)

    def binding(self, version: Version) -> str:
        """What a decision about a version binds to now; see binding_of."""
        return binding_of(version, self.ledger(), self.environment)

    def history(self) -> list[Promotion]:
        """Every change of the champion, oldest first."""
        return list(self.ledger().promotions)

    def audit_anchor(self) -> Anchor | None:
        """The audit log's place and hash as last written to MLflow, for audit.verify."""
        text = self.backend.model_tags().get(f"{ANCHOR_TAG}.{self.environment}")
        return None if text is None else Anchor(**json.loads(text))

    def reconcile(self, now: datetime | None = None) -> list[str]:
        """Make MLflow say what the state database says: aliases, status tags, audit anchor.

        Returns what was put right, empty when nothing was. Repairs are written to the audit log.
        """
        repairs = self._converge()
        if repairs:
            with self.state.write() as conn:
                append(conn, REQUESTER, "reconcile", "registry", {"repairs": repairs}, now or datetime.now(UTC))
        self._write_anchor()
        return repairs

    def follow(self) -> None:
        """Let MLflow follow a change that was just committed; reconcile() without the audit entry."""
        self._converge()
        self._write_anchor()

    def _converge(self) -> list[str]:
        versions, aliases, repairs = self.versions(), self.backend.aliases(), []
        for alias in ("champion", "challenger"):
            named = [version.number for version in versions if version.status == alias]
            number = named[-1] if named else None
            if aliases.get(alias) != number:
                self.backend.set_alias(alias, number)
                repairs.append(f"alias {alias}: {aliases.get(alias)} -> {number}")
        for version in versions:
            tagged = version.tags.get(STATUS_TAG)
            if tagged != version.status:
                self.backend.set_version_tag(version.number, STATUS_TAG, version.status)
                repairs.append(f"version {version.number}: status {tagged} -> {version.status}")
        return repairs

    def _write_anchor(self) -> None:
        newest = head(self.state)
        if newest is not None:
            text = json.dumps({"seq": newest.seq, "hash": newest.hash})
            self.backend.set_model_tag(f"{ANCHOR_TAG}.{self.environment}", text)

    def _find(self, digest: str, round_id: str) -> RawVersion | None:
        wanted = {f"{PREFIX}digest": digest, f"{PREFIX}lineage.round_id": round_id}
        same = [raw for raw in self.backend.versions() if wanted.items() <= raw.tags.items()]
        return same[0] if same else None

    def _note_registration(self, raw: RawVersion, requester: str, now: datetime) -> None:
        """Once per version, also when the process died between making it and noting it."""
        subject = f"version:{raw.number}"
        seen = sa.select(audit_table.c.seq).where(audit_table.c.subject == subject, audit_table.c.action == "register")
        details = {
            key.removeprefix(PREFIX): value
            for key, value in raw.tags.items()
            if key.startswith((f"{PREFIX}digest", f"{PREFIX}gate_", f"{PREFIX}lineage."))
        }
        with self.state.write() as conn:
            if conn.execute(seen.limit(1)).one_or_none() is None:
                append(conn, requester, "register", subject, details, now)

    def _bundle(self, digest: str) -> Path:
        return self.bundles_dir / digest


def _version(raw: RawVersion, ledger: Ledger) -> Version:
    digest = raw.tags.get(f"{PREFIX}digest")
    if digest is None:
        raise RegistryError(f"version {raw.number} has no penstock tags, found {sorted(raw.tags)}; remove it in MLflow")
    status, _ = standing(raw.number, digest, raw.tags, ledger)
    return Version(raw.number, digest, status, datetime.fromtimestamp(raw.created_ms / 1000, UTC), dict(raw.tags))
