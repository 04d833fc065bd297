"""Importers: other people's logs become datasets, every row accounted for."""

from collections.abc import Callable, Mapping
from pathlib import Path

from penstock.data.dataset import Dataset, write_dataset
from penstock.data.importers.labels import import_labels
from penstock.data.importers.mind import import_mind
from penstock.data.importers.movielens import import_movielens
from penstock.data.importers.online_retail import import_online_retail
from penstock.data.importers.reconciliation import Reconciliation
from penstock.data.importers.table import import_table
from penstock.errors import DataError

__all__ = ["IMPORTERS", "Importer", "Reconciliation", "import_source"]

Importer = Callable[[Path, Mapping[str, str]], tuple[Dataset, Reconciliation]]

IMPORTERS: dict[str, Importer] = {
    "mind": import_mind,
    "movielens": import_movielens,
    "online-retail": import_online_retail,
    "labels": import_labels,
    "table": import_table,
}
MAPPED = ("labels", "table")


def import_source(kind: str, source: Path, into: Path, mapping: Mapping[str, str]) -> Reconciliation:
    """Import `source` and write the dataset folder `into`.

    Args:
        kind: a key of IMPORTERS.
        source: file or folder.
        into: folder to write; created if need be.
        mapping: column → field, for labels and table only.

    Raises:
        DataError: no such importer, or a mapping for one that takes none.
        SchemaError: the source does not have the expected shape.
        EmptyWindow: no row could be kept.
    """
    if kind not in IMPORTERS:
        raise DataError(f"there is no importer {kind!r}, expected one of {', '.join(IMPORTERS)}")
    if mapping and kind not in MAPPED:
        raise DataError(f"--map {next(iter(mapping))}=… given for {kind}, whose columns are known; leave it out")
    dataset, reconciliation = IMPORTERS[kind](source, mapping)
    write_dataset(dataset, into)
    return reconciliation
