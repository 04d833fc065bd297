"""Great Expectations: the one module that runs it.

Everything lives in memory (an ephemeral context) but the Data Docs. Importing it costs seconds, so it happens in the
first call. An expectation that could not be computed is an error here: Great Expectations reports it as a mere failure.
"""

import gc
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from penstock.data.data_docs import make_offline, move_site
from penstock.data.rules import ROW, RowRule
from penstock.data.window_rules import WindowRule
from penstock.errors import DataError, DependencyMissing

INDEX = [ROW, "event_id"]
SITE = "data_docs"
SOURCE = "snapshots"
MAX_LISTED = 2_000
"""Broken rows that the record lists one by one, at 0.2 ms each; beyond it holds the counts, quarantine all the rows."""


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations found of one rule. `rows`: row numbers that break it, where they are listed."""

    success: bool
    broken: int
    rows: tuple[int, ...]


def run_suite(
    checked: pl.DataFrame,
    row_rules: list[RowRule],
    window_rules: list[WindowRule],
    title: str,
    docs_dir: Path | None,
    broken: int = 0,
) -> tuple[dict[str, Outcome], Path | None]:
    """Run every rule as an expectation over `rules.checked_table`.

    Args:
        checked: let go of once it is in pandas, where a million rows hold 180 MB: keep no other reference to it.
        title: names the suite and the batch in the docs.
        broken: how many broken rows are to be expected, all rules together; beyond MAX_LISTED none is listed.
        docs_dir: where Data Docs are written as HTML that loads nothing from a network; None: nowhere.

    Returns:
        Outcomes by rule name, and the docs' first page.

    Raises:
        DependencyMissing: great-expectations or pandas is not installed.
        DataError: an expectation could not be computed.
    """
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    try:
        context.enable_analytics(enable=False)
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        expectations = _expectations(gx, row_rules, window_rules)
        frame = checked.to_pandas()
        del checked
        result = _run(gx, context, expectations, frame, title, broken <= MAX_LISTED)
        context.data_sources.delete(SOURCE)  # the context outlives this call, and so would the table in it
        del frame
        gc.collect()  # what Great Expectations made refers to it in circles
        outcomes = {item.expectation_config.meta["rule"]: _outcome(item) for item in result.results}
        return outcomes, None if docs_dir is None else _write_docs(context, docs_dir)
    finally:
        _remove_scratch(context)


def _run(gx: Any, context: Any, expectations: list[Any], frame: Any, title: str, listed: bool) -> Any:
    asset = context.data_sources.add_pandas(SOURCE).add_dataframe_asset(title)
    batch = asset.add_batch_definition_whole_dataframe("whole")
    suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=title, data=batch, suite=suite))
    complete = {"result_format": "COMPLETE", "unexpected_index_column_names": INDEX}
    return definition.run(batch_parameters={"dataframe": frame}, result_format=complete if listed else "SUMMARY")


def _remove_scratch(context: Any) -> None:
    """An ephemeral context makes a temporary folder for a site of its own, and leaves it."""
    for site in context.list_data_docs_sites().values():
        folder = Path(site["store_backend"]["base_directory"])
        if folder.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(folder, ignore_errors=True)


def _great_expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read once, when it is imported
    with warnings.catch_warnings():
        # great_expectations 1.24 imports sre_constants and sre_parse, which Python 3.11 deprecates; nothing here can
        # change that.
        warnings.filterwarnings("ignore", r"module 'sre_\w+' is deprecated", DeprecationWarning)
        try:
            import great_expectations
        except ImportError as error:
            raise DependencyMissing(
                f"validation needs great-expectations and pandas: {error}; pip install 'penstock[learn]'"
            ) from error
    return great_expectations


def _expectations(gx: Any, row_rules: list[RowRule], window_rules: list[WindowRule]) -> list[Any]:
    row = [
        getattr(gx.expectations, rule.expectation)(
            **rule.arguments, meta={"rule": rule.name}, notes=f"{rule.name}: {rule.expected}"
        )
        for rule in row_rules
    ]
    window = [
        getattr(gx.expectations, rule.expectation)(
            **rule.arguments, meta={"rule": rule.name}, notes=f"{rule.name}: {rule.explained}"
        )
        for rule in window_rules
    ]
    return window + row


def _outcome(item: Any) -> Outcome:
    if item.exception_info.get("raised_exception", True):
        raise DataError(
            f"expectation {item.expectation_config.type} on {item.expectation_config.kwargs} could not be computed: "
            f"{item.exception_info}; that is never a pass; report it with the snapshot's id"
        )
    rows = item.result.get("unexpected_index_list") or []
    return Outcome(
        bool(item.success), int(item.result.get("unexpected_count", 0)), tuple(int(row[ROW]) for row in rows)
    )


def _write_docs(context: Any, docs_dir: Path) -> Path:
    part = docs_dir.absolute().with_name(f".{docs_dir.name}.{os.getpid()}.part")
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(part)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    try:
        part.mkdir(parents=True, exist_ok=True)
        context.add_data_docs_site(
            SITE, {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
        )
        context.build_data_docs(site_names=[SITE])
        page = make_offline(part)
        move_site(part, docs_dir)
        return docs_dir / page.relative_to(part)
    except OSError as error:
        raise DataError(
            f"Data Docs cannot be written to {docs_dir} ({error.strerror}); free the disk or name another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
