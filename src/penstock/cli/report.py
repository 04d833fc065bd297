"""report: one version as a page."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.opened import open_all


@command(
    "report",
    click.argument("number"),
    click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
                 help="File to write; version-NUMBER.html here where it is left out."),
)  # fmt: skip
def report(output: Output, number: str, out: Path | None) -> Answer:
    """Write one page that holds all there is to say of a version.

    Gates, slices, lineage, data, curves and who approved, in one HTML file without scripts or links to elsewhere.
    """
    from penstock.data.tables import replace_file
    from penstock.errors import RegistryError
    from penstock.evaluation.version_page import version_page
    from penstock.serving.console_versions import version_detail

    _, state, registry = open_all()
    detail = version_detail(state, registry, number)
    try:
        gates = registry.gate_report(registry.version(number))
    except RegistryError:
        gates = None  # the page says so in the report's own words: detail.report_error
    page = version_page(detail.model_dump(mode="json"), gates, datetime.now(UTC).isoformat(" ", "seconds"))
    path = out or Path(f"version-{detail.number}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, partial(_write, page))
    data = {"version": detail.number, "status": detail.status, "report": path}
    return Answer(data, lambda screen: screen.line(f"version {detail.number} ({detail.status}): {path}"))


def _write(page: str, path: Path) -> None:
    path.write_text(page, encoding="utf-8")


COMMANDS = (report,)
