"""How often each fault is tried: a few times in the suite, all of them under `make faults`."""

import os

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
SCALE = float(os.environ.get("PENSTOCK_FAULTS_SCALE", "1"))


class Trials:
    """Counts by size of run."""

    def __call__(self, short: int, full: int) -> int:
        """`short` in the suite; `full` under `make faults`, times $PENSTOCK_FAULTS_SCALE."""
        return max(short, round(full * SCALE)) if FULL else short
