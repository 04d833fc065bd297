"""Gate reports as they were when a version was registered, kept under their digest."""

import json
import math
import os
import shutil
import uuid
from dataclasses import fields
from pathlib import Path

from penstock.errors import RegistryError
from penstock.records import GateReport, GateResult, plain_json

REPORT_JSON = "registered-report.json"


def keep_report(report: GateReport, pages: Path | None, folder: Path) -> Path:
    """Write the report, and copy the files of `pages` beside it, to `folder`/<digest>; whole or not at all."""
    target = folder / report.digest
    if target.exists():
        return target
    incoming = folder / f".incoming-{uuid.uuid4().hex}"
    incoming.mkdir(parents=True)
    try:
        for page in sorted(pages.iterdir()) if pages is not None else []:
            if page.is_file():
                shutil.copyfile(page, incoming / page.name)
        text = json.dumps(plain_json(report.to_json()), indent=2, sort_keys=True, allow_nan=False)
        with (incoming / REPORT_JSON).open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            incoming.rename(target)
        except OSError:
            # Another registration of the same report came first.
            if not target.exists():
                raise
    finally:
        if incoming.exists():
            shutil.rmtree(incoming)
    return target


def read_kept(folder: Path) -> GateReport:
    """The report kept in `folder`, which is named by its digest.

    Raises:
        RegistryError: missing, unreadable or altered.
    """
    path = folder / REPORT_JSON
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        gates = tuple(GateResult(**(gate | {"observed": _number(gate["observed"])})) for gate in tree["gates"])
        known = {name: tree[name] for name in (f.name for f in fields(GateReport))}
        report = GateReport(**(known | {"gates": gates}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{path} is no gate report ({error!r}); restore it from a backup") from error
    if report.digest != folder.name:
        raise RegistryError(
            f"{path} was altered: its content has digest {report.digest[:12]}, expected {folder.name[:12]}; "
            "restore it from a backup, the version cannot be promoted meanwhile"
        )
    return report


def _number(value: float | None) -> float:
    return math.nan if value is None else value
