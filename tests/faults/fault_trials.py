"""How often each fault is tried: a few times in the suite, all of them under `make faults`.

A full run that was cut off goes on where it stopped, since blocks of trials are kept in a file as they end.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
SCALE = float(os.environ.get("PENSTOCK_FAULTS_SCALE", "1"))
KEEP = os.environ.get("PENSTOCK_FAULTS_KEEP")
"""The file of blocks that have been tried; of one state of the code, so begin a new one when it changes."""


class Trials:
    """Counts by size of run, and blocks of trials that go on where an earlier run stopped."""

    def __init__(self, keep: Path | None = Path(KEEP) if FULL and KEEP else None) -> None:
        self.keep = keep
        self.kept: dict[str, dict[str, int]] = json.loads(keep.read_text()) if keep and keep.exists() else {}

    def __call__(self, short: int, full: int) -> int:
        """`short` in the suite; `full` under `make faults`, times $PENSTOCK_FAULTS_SCALE."""
        return max(short, round(full * SCALE)) if FULL else short

    def blocks(
        self, fault: str, count: int, size: int, tried: Callable[[range], Mapping[str, int]]
    ) -> tuple[Counter[str], list[str]]:
        """What `tried` counts over blocks of trials, and what failed; under `make faults` a block that fails does not
        keep the others from being tried, and one that was kept is not tried again.

        Raises:
            AssertionError: of the first block that fails, in the suite.
        """
        total: Counter[str] = Counter()
        failures: list[str] = []
        for start in range(0, count, size):
            place = f"{fault}, {start} of {count}"
            if place not in self.kept:
                block = range(start, min(start + size, count))
                try:
                    self.kept[place] = dict(tried(block))
                except AssertionError as error:
                    if not FULL:
                        raise
                    self.kept[place] = {f"failed: {error}": 1}
                self._save()
            for what, often in self.kept[place].items():
                if what.startswith("failed: "):
                    failures.append(f"{place}: {what}")
                else:
                    total[what] += often
        return total, failures

    def _save(self) -> None:
        if self.keep is not None:
            part = self.keep.with_suffix(".part")
            part.write_text(json.dumps(self.kept, indent=1) + "\n")
            part.replace(self.keep)
