"""A version: one bundle with where it comes from and what the gates said, and its standing now.

What is known at registration never changes and lives in the version's tags. Its standing is worked out from
the ledger, so it cannot disagree with who serves.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Literal

from penstock.errors import RegistryError
from penstock.records import GateReport, Lineage
from penstock.registry.ledger import Ledger

Status = Literal["challenger", "champion", "refused", "rejected", "retired"]
PREFIX = "penstock."
LINEAGE = f"{PREFIX}lineage."
STATUS_TAG = f"{PREFIX}status"
REQUESTER = "penstock"
"""Who asks for a round's version to serve; it never approves its own."""


@dataclass(frozen=True)
class Version:
    """One registered bundle.

    gate_verdict: passed, refused, or missing (never measured, so never promoted); gate_champion_digest: the
    bundle the gates compared with, None when nothing served; status: challenger (asks to serve), champion
    (serves), refused (by a gate), rejected (by a person), retired (served before, or was compared with a bundle
    that is not the champion now).
    """

    number: str
    digest: str
    status: Status
    created_at: datetime
    tags: dict[str, str] = field(repr=False)

    @property
    def gate_verdict(self) -> str:
        """passed, refused or missing."""
        return self.tags[f"{PREFIX}gate_verdict"]

    @property
    def report_digest(self) -> str | None:
        """Digest of the gate report."""
        return self.tags.get(f"{PREFIX}gate_report_digest")

    @property
    def gate_champion_digest(self) -> str | None:
        """Digest of the bundle that the gates compared with."""
        return self.tags.get(f"{PREFIX}gate_champion_digest")

    @property
    def requester(self) -> str:
        """Who asked for this version to serve."""
        return self.tags[f"{PREFIX}requester"]

    @property
    def run_id(self) -> str | None:
        """The MLflow run that made it."""
        return self.tags.get(f"{PREFIX}run_id")

    @property
    def lineage(self) -> Lineage:
        """Where the bundle comes from.

        Raises:
            RegistryError: the version's tags do not hold all of it.
        """
        return lineage_from(self.tags, self.number)


def standing(number: str, digest: str, tags: Mapping[str, str], ledger: Ledger) -> tuple[Status, str]:
    """A version's status, and why it may not be promoted (empty for a challenger)."""
    champion = ledger.champion
    if champion is not None and champion.number == number:
        return "champion", f"version {number} already serves"
    if number in ledger.rejected:
        return "rejected", f"version {number} was rejected"
    if number in ledger.served:
        return "retired", f"version {number} served before; use rollback to serve it again"
    verdict = tags[f"{PREFIX}gate_verdict"]
    if verdict != "passed":
        named = tags.get(f"{PREFIX}gate_refusals")
        return "refused", f"the gates did not pass version {number} (verdict {verdict}{f': {named}' if named else ''})"
    compared, serving = tags.get(f"{PREFIX}gate_champion_digest"), None if champion is None else champion.digest
    if compared != serving:
        return "retired", (
            f"the gates compared version {number} ({digest[:12]}) with {_short(compared)}, but "
            f"{_short(serving)} serves now; run a round against it"
        )
    return "challenger", ""


def binding_of(version: Version, ledger: Ledger, environment: str) -> str:
    """sha256 hex over what a decision about `version` binds to: a page shows it and sends it back with the decision."""
    champion = ledger.champion
    bound = [
        environment,
        version.number,
        version.digest,
        version.report_digest,
        None if champion is None else [champion.number, champion.digest],
    ]
    return hashlib.sha256(json.dumps(bound).encode()).hexdigest()


def registration_tags(
    digest: str, report: GateReport | None, lineage: Lineage, requester: str, run_id: str | None
) -> dict[str, str]:
    """The tags that penstock itself gives a new version."""
    verdict = "missing" if report is None else "passed" if report.passed else "refused"
    tags: dict[str, str | None] = {
        "digest": digest,
        "gate_verdict": verdict,
        "gate_report_digest": None if report is None else report.digest,
        "gate_champion_digest": None if report is None else report.champion_digest,
        "gate_refusals": None if report is None else ", ".join(report.refusals) or None,
        "requester": requester,
        "run_id": run_id,
    }
    named = {PREFIX + key: value for key, value in tags.items() if value is not None}
    return named | lineage_tags(lineage)


def lineage_tags(lineage: Lineage) -> dict[str, str]:
    """Every field of a lineage as a tag; one that is None has no tag."""
    plain = asdict(lineage) | {"learned_until": lineage.learned_until.isoformat()}
    return {LINEAGE + key: _text(value) for key, value in plain.items() if value is not None}


def lineage_from(tags: Mapping[str, str], number: str) -> Lineage:
    """The inverse of lineage_tags.

    Raises:
        RegistryError: a field is missing or cannot be read.
    """
    found = {f.name: tags.get(LINEAGE + f.name) for f in fields(Lineage)}
    try:
        return Lineage(
            **found  # type: ignore[arg-type]
            | {
                "seed": int(found["seed"] or ""),
                "learned_until": datetime.fromisoformat(found["learned_until"] or ""),
                "libraries": json.loads(found["libraries"] or ""),
            }
        )
    except ValueError as error:
        raise RegistryError(
            f"version {number}: its lineage tags hold {found}, expected every field of Lineage ({error}); "
            "it was registered by something else, register it again"
        ) from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(digest: str | None) -> str:
    return "no champion" if digest is None else f"bundle {digest[:12]}"
