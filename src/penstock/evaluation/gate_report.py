"""A gate report on disk: gate-report.json for machines, gate-report.html for people, one digest for both."""

import json
import math
from pathlib import Path
from typing import Any

from penstock.errors import GateError
from penstock.evaluation.whole_file import write_whole
from penstock.records import GateReport, GateResult, plain_json

REPORT_JSON = "gate-report.json"
REPORT_HTML = "gate-report.html"


def write_report(report: GateReport, folder: Path) -> tuple[Path, Path]:
    """Write gate-report.json and gate-report.html into `folder`, each whole or not at all; return their paths."""
    from penstock.evaluation.gate_page import render_page

    json_path, html_path = folder / REPORT_JSON, folder / REPORT_HTML
    tree = plain_json(report.to_json()) | {"digest": report.digest}
    write_whole(json_path, json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False).encode())
    write_whole(html_path, render_page(report, report.digest).encode())
    return json_path, html_path


def read_report(path: Path) -> GateReport:
    """The report in a gate-report.json, its digest verified.

    Raises:
        GateError: not readable, not a gate report, or altered since it was written.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        written = tree.pop("digest")
        del tree["passed"], tree["refusals"]
        gates = tuple(GateResult(**_observed(gate)) for gate in tree.pop("gates"))
        report = GateReport(gates=gates, **tree)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GateError(f"{path} is no gate report ({error!r}); judge the challenger again") from error
    if report.digest != written:
        raise GateError(
            f"{path} was altered: its content has digest {report.digest[:12]}, it states {str(written)[:12]}; "
            "judge the challenger again"
        )
    return report


def _observed(gate: dict[str, Any]) -> dict[str, Any]:
    return gate | {"observed": math.nan if gate["observed"] is None else gate["observed"]}
