"""versions, show, approve, reject, rollback and audit."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.answer import FAILED, Answer, Output, command
from penstock.cli.opened import open_all, open_state_only, signed
from penstock.cli.screen import Screen

if TYPE_CHECKING:
    from penstock.registry.store import Registry
    from penstock.registry.versions import Version


NUMBER = click.argument("number")
REASON = click.option("--reason", required=True, help="Why; it is kept in the audit log.")
ACTOR = click.option("--actor", help="Who decides; left out: whose token is in PENSTOCK_TOKEN, else the account.")
SEEN = click.option("--seen", help="Binding that `show` printed: refuse if anything about the version changed since.")


@command("versions")
def versions(output: Output) -> Answer:
    """Every version, oldest first, with its status."""
    registry = open_all().registry
    found = [_brief(version) for version in registry.versions()]

    def show(screen: Screen) -> None:
        rows = [[v["number"], v["status"], v["created_at"], v["gates"], v["digest"][:12], v["round_id"]] for v in found]
        screen.table(["version", "status", "registered (UTC)", "gates", "bundle", "round"], rows)

    return Answer({"versions": found}, show)


@command("show", NUMBER)
def show(output: Output, number: str) -> Answer:
    """One version: where it comes from, what the gates said, who decided."""
    from penstock.registry.approvals import list_approvals

    _, state, registry = open_all()
    version = registry.version(number)
    report = registry.gate_report(version)
    bundle = registry.bundle_dir(version)
    data = _brief(version) | {
        "bundle": bundle,
        "bundle_kept": bundle.is_dir(),
        "lineage": asdict(version.lineage),
        "rows": _rows(bundle) if bundle.is_dir() else None,
        "gate_report": None if report is None else report.to_json(),
        "binding": registry.binding(version),
        "gate_report_digest": version.report_digest,
        "report_dir": registry.report_dir(version),
        "approvals": [asdict(one) for one in list_approvals(state, registry.environment, number)],
        "promotions": [asdict(one) for one in registry.history() if one.number == number],
    }
    return Answer(data, lambda screen: _show_version(screen, data))


def _show_version(screen: Screen, data: dict[str, Any]) -> None:
    facts = ("number", "status", "created_at", "digest", "bundle", "report_dir", "binding")
    screen.facts({name: data[name] for name in facts})
    screen.table(["lineage", ""], [[key, value] for key, value in data["lineage"].items() if key != "libraries"])
    if not data["bundle_kept"]:
        screen.line("its bundle is not kept any more, nor which rows it saw (registry.keep_served, keep_unserved)")
    if data["rows"] is not None:
        seen = data["rows"] | {
            "snapshots": f"{len(data['rows']['snapshots'])}, the last {data['rows']['snapshots'][-1]}",
            "refused_snapshots": ", ".join(data["rows"]["refused_snapshots"]) or "none",
        }
        screen.table(["rows", ""], [[name.replace("_", " "), value or "none"] for name, value in seen.items()])
    report = data["gate_report"]
    if report is None:
        screen.line("never measured: it cannot be promoted")
    else:
        rows = [
            ["passed" if gate["passed"] else "refused", gate["name"], gate["slice"], gate["observed"], _interval(gate),
             f"{gate['comparison']} {gate['threshold']:g}"]
            for gate in report["gates"]
        ]  # fmt: skip
        screen.table(["verdict", "gate", "slice", "observed", "interval", "threshold"], rows)
        from penstock.evaluation.gate_page import budget_line

        screen.line(budget_line(report["extra"]))
        for one in report["extra"].get("not_judged", []):
            screen.line(f"not judged: {one['name']}, {one['slice']}: {one['why']}")
    decided: list[list[Any]] = [
        [one["created_at"], one["decision"], one["actor"], one["reason"]] for one in data["approvals"]
    ]
    decided += [[one["at"], one["kind"], one["actor"], one["reason"]] for one in data["promotions"]]
    if decided:
        screen.table(["when (UTC)", "decision", "by", "reason"], sorted(decided, key=lambda row: str(row[0])))


def _rows(bundle: Path) -> dict[str, Any] | None:
    """What the version saw of the data; None where its bundle was made without snapshots.

    Raises:
        BundleError: the bundle is not whole.
    """
    from penstock.inference.bundle import load_bundle

    rows: dict[str, Any] | None = load_bundle(bundle).manifest.get("rows")
    return rows


@command("approve", NUMBER, REASON, ACTOR, SEEN)
def approve(output: Output, number: str, reason: str, actor: str | None, seen: str | None) -> Answer:
    """Approve a challenger and let it serve."""
    from penstock.registry.approvals import Sight
    from penstock.serving.decisions import Decisions

    _, state, registry = open_all()
    who = signed(state, actor)
    Decisions(registry, state).approve(number, who.name, reason, datetime.now(UTC), who.caller, Sight(seen))
    return _decided(registry, number, "approve", who.name, reason)


@command("reject", NUMBER, REASON, ACTOR, SEEN)
def reject(output: Output, number: str, reason: str, actor: str | None, seen: str | None) -> Answer:
    """Decide that a version never serves."""
    from penstock.registry.approvals import Sight
    from penstock.serving.decisions import Decisions

    _, state, registry = open_all()
    who = signed(state, actor)
    Decisions(registry, state).reject(number, who.name, reason, datetime.now(UTC), who.caller, Sight(seen))
    return _decided(registry, number, "reject", who.name, reason)


@command(
    "rollback",
    click.option("--to", help="Version that served before; the one before the champion if left out."),
    REASON,
    ACTOR,
)
def rollback(output: Output, to: str | None, reason: str, actor: str | None) -> Answer:
    """Let an earlier champion serve again."""
    from penstock.serving.decisions import Decisions

    _, state, registry = open_all()
    who = signed(state, actor)
    number = Decisions(registry, state).rollback(to, who.name, reason, datetime.now(UTC), who.caller)
    return _decided(registry, number, "rollback", who.name, reason)


def _decided(registry: "Registry", number: str, decision: str, actor: str, reason: str) -> Answer:
    pointer = registry.champion_pointer()
    data = {
        "decision": decision,
        "version": number,
        "status": registry.version(number).status,
        "champion": None if pointer is None else pointer.number,
        "actor": actor,
        "reason": reason,
    }
    return Answer(data, lambda screen: screen.facts(data))


@click.group("audit")
def audit() -> None:
    """The hash-chained log of every decision."""


@command("verify")
def verify(output: Output) -> Answer:
    """Recompute the chain; ends with 1 when an entry was altered, removed or cut off."""
    from penstock.registry.audit import verify as check

    _, state, registry = open_all()
    verdict = check(state, registry.audit_anchor())
    data = asdict(verdict)
    return Answer(data, lambda screen: screen.facts({"": "ok" if verdict.ok else "failed", "log": verdict.reason}),
                  0 if verdict.ok else FAILED)  # fmt: skip


@command(
    "list",
    click.option("--version", "number", help="Only entries about this version."),
    click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many."),
)
def entries(output: Output, number: str | None, limit: int) -> Answer:
    """Who did what, oldest first."""
    from penstock.registry.audit import entries as read

    _, state = open_state_only()
    found = read(state, None if number is None else f"version:{number}", limit)

    def show(screen: Screen) -> None:
        rows = [
            [
                e.seq,
                e.at.isoformat(" ", "seconds"),
                e.actor,
                e.action,
                e.subject,
                e.details.get("reason") or e.details.get("error"),
            ]
            for e in found
        ]
        screen.table(["", "when (UTC)", "who", "what", "to", "reason"], rows)

    return Answer({"entries": [asdict(entry) for entry in found]}, show)


def _brief(version: "Version") -> dict[str, Any]:
    return {
        "number": version.number,
        "status": version.status,
        "created_at": version.created_at.isoformat(" ", "seconds"),
        "gates": version.gate_verdict,
        "digest": version.digest,
        "round_id": version.lineage.round_id,
        "requester": version.requester,
        "run_id": version.run_id,
    }


def _interval(gate: dict[str, Any]) -> str:
    return "" if gate["low"] is None or gate["high"] is None else f"{gate['low']:.4f} … {gate['high']:.4f}"


for _command in (verify, entries):
    audit.add_command(_command)

COMMANDS = (versions, show, approve, reject, rollback, audit)
