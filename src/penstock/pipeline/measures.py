"""What the gates need to know of an exported bundle beside its scores and parity: latency, size."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

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
