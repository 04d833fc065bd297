"""Versions for the console: what each one is, where it comes from, what was measured, who decided."""

import json
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from penstock.data.snapshot import find_snapshot
from penstock.data.state import State, from_micros, rounds
from penstock.errors import RegistryError, StateError
from penstock.records import plain_json
from penstock.registry.approvals import list_approvals
from penstock.registry.promotion import Promotion

CURVES = ("loss", "learning_rate", "gradient_norm")


class VersionRow(BaseModel):
    """One line of the list of versions. `verdict`: of the gates; `refusals`: the gates that refused; `parent`: the
    version it went on from."""

    number: str
    status: str
    created_at: str
    digest: str
    verdict: str
    refusals: str
    round_id: str | None
    parent: str | None


class CurvePoint(BaseModel):
    """One value of a curve at a step of learning."""

    step: int
    value: float | None


class Decided(BaseModel):
    """One decision or change of the champion that concerns a version."""

    at: str
    what: str
    who: str
    why: str


class VersionDetail(BaseModel):
    """One version whole. `round`: its row with metrics and seconds by stage; `snapshot`: the manifest of its data;
    `report_error`: why the gate report cannot be shown."""

    number: str
    status: str
    created_at: str
    digest: str
    requester: str
    bundle: str
    lineage: dict[str, Any] | None
    report: dict[str, Any] | None
    report_digest: str | None
    report_error: str | None
    round: dict[str, Any] | None
    snapshot: dict[str, Any] | None
    curves: dict[str, list[CurvePoint]]
    decisions: list[Decided]


def version_rows(registry: Any) -> list[VersionRow]:
    """Every version, newest first."""
    return [
        VersionRow(
            number=version.number,
            status=version.status,
            created_at=version.created_at.isoformat(),
            digest=version.digest,
            verdict=version.gate_verdict,
            refusals=version.tags.get("penstock.gate_refusals", ""),
            round_id=version.tags.get("penstock.lineage.round_id"),
            parent=version.tags.get("penstock.lineage.parent_version") or None,
        )
        for version in reversed(registry.versions())
    ]


def version_detail(state: State, registry: Any, number: str) -> VersionDetail:
    """Everything known of one version.

    Raises:
        RegistryError: there is none of that number.
    """
    version = registry.version(number)
    report, error = _report(registry, version)
    lineage = _lineage(version)
    ran = _round(state, None if lineage is None else lineage["round_id"])
    return VersionDetail(
        number=version.number,
        status=version.status,
        created_at=version.created_at.isoformat(),
        digest=version.digest,
        requester=version.requester,
        bundle=registry.bundle_dir(version).name,
        lineage=lineage,
        report=report,
        report_digest=version.report_digest,
        report_error=error,
        round=ran,
        snapshot=None if lineage is None else _snapshot(state, lineage["snapshot_id"]),
        curves=_curves(registry, version.run_id),
        decisions=_decisions(state, registry, number),
    )


def _report(registry: Any, version: Any) -> tuple[dict[str, Any] | None, str | None]:
    try:
        report = registry.gate_report(version)
    except RegistryError as error:
        return None, str(error)
    if report is None:
        return None, "this version was never measured and cannot be promoted"
    return plain_json(report.to_json()), None


def _lineage(version: Any) -> dict[str, Any] | None:
    try:
        lineage = version.lineage
    except RegistryError:
        return None  # registered by something else; the page says that there is none
    return asdict(lineage) | {"learned_until": lineage.learned_until.isoformat()}


def _round(state: State, round_id: str | None) -> dict[str, Any] | None:
    with state.read() as conn:
        row = conn.execute(sa.select(rounds).where(rounds.c.round_id == round_id)).one_or_none()
    if row is None:
        return None
    result = json.loads(row.result) if row.result else {}
    return {
        "round_id": row.round_id,
        "outcome": row.outcome,
        "started_at": from_micros(row.started_at).isoformat(),
        "ended_at": None if row.ended_at is None else from_micros(row.ended_at).isoformat(),
        "reason": result.get("reason", ""),
        "metrics": plain_json(result.get("metrics", {})),
        "stages_s": plain_json(result.get("stages_s", {})),
    }


def _snapshot(state: State, snapshot_id: str) -> dict[str, Any] | None:
    try:
        manifest, status = find_snapshot(state, snapshot_id)
    except StateError:
        return None  # of another state database, as a bundle that was copied here
    return asdict(manifest) | {"status": status}


def _curves(registry: Any, run_id: str | None) -> dict[str, list[CurvePoint]]:
    if run_id is None:
        return {}
    found = {name: registry.backend.metric_history(run_id, name) for name in CURVES}
    return {
        name: [CurvePoint(step=point.step, value=plain_json(point.value)) for point in points]
        for name, points in found.items()
        if points
    }


def _decisions(state: State, registry: Any, number: str) -> list[Decided]:
    decided = [
        Decided(at=one.created_at.isoformat(), what=one.decision, who=one.actor, why=one.reason)
        for one in list_approvals(state, registry.environment, number)
    ]
    changes: list[Promotion] = [one for one in registry.history() if one.number == number]
    decided += [Decided(at=one.at.isoformat(), what=one.kind, who=one.actor, why=one.reason) for one in changes]
    return sorted(decided, key=lambda one: one.at)
