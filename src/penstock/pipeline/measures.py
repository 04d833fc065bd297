"""What the gates need to know of an exported bundle beside its scores: parity, latency, size."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from penstock.errors import ExportError

REPEATS = 15
LATENCY_CANDIDATES = 200


def median_ms(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of `call`, after one that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
    return float(np.median(taken))


def folder_mb(folder: Path) -> float:
    """Size of a folder in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute difference where both are finite.

    Raises:
        ExportError: one of them has a value that is not finite where the other has one.
    """
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        raise ExportError("torch and onnxruntime disagree on which scores are finite; the export is broken")
    return float(np.abs(a[finite] - b[finite]).max()) if finite.any() else 0.0
