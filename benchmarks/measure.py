"""What every benchmark shares: repeated timing, memory, the machine in words, and the JSON file of results.

The clock is the wall's. On a machine that others use at the same time, PENSTOCK_BENCH_CLOCK=cpu counts this process's
processor time instead, on one thread: what a call would take on one core of its own. The results say which it was.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
REPEATS = 5
CLOCK = os.environ.get("PENSTOCK_BENCH_CLOCK", "wall")
if CLOCK == "cpu":
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    time.perf_counter = time.process_time  # also what penstock's own reports of stages read
LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "onnx", "onnxruntime-gpu", "onnxruntime")


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def repeated(call: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds of `repeats` calls, after one that is not counted."""
    call()
    return [seconds(call) for _ in range(repeats)]


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def peak_gb() -> float:
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> dict[str, Any]:
    """Processor, memory, load and libraries; nothing that names the machine."""
    import torch

    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory[0] / 2**20, 1) if memory else None,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "clock": {"wall": "wall", "cpu": "processor time, one thread"}[CLOCK],
        "torch_threads": torch.get_num_threads(),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "libraries": libraries,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # another system than Linux
        return []


def save(name: str, figures: dict[str, Any]) -> None:
    """Write results/<name>.json, whole or not at all, and print it."""
    tree = {"benchmark": name, "at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **figures}
    RESULTS.mkdir(exist_ok=True)
    part = RESULTS / f"{name}.json.part"
    part.write_text(json.dumps(tree, indent=1) + "\n")
    part.replace(RESULTS / f"{name}.json")
    print(json.dumps(figures, indent=1))


def note(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
