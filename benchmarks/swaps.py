"""Hot swaps under open-loop load, one in ten of a bad bundle: failed requests, mixed answers, p99, memory.

    python benchmarks/swaps.py [--swaps 500] [--rate 50] [--items 2000]

The real scorer, journal and application in a process of its own, loaded from this one. Good bundles take turns; bad
ones are cut short, have a flipped bit, or hold weights that are not finite behind a manifest that vouches for them.
Titles name the bundle they are of, so an answer that mixes two versions shows. Load and service share the machine, so
the load is sent over raw sockets, answers are looked at when the sending is over, and the service is not asked how far
a swap is: it leaves a mark in a file when it is through with a bundle.
"""

import argparse
import asyncio
import json
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import psutil

import measure
from service_load import Load as Sockets

PORT, POLL_S, SETTLE_S, PATIENCE_S = 8473, 0.02, 0.1, 30.0
USERS, K = 500, 10
LOADED = "loaded"
GOOD, BAD = ("good-a", "good-b"), ("bad-short", "bad-bit", "bad-weights")


def write_bundles(folder: Path, items: int) -> dict[str, str]:
    """Digest of each bundle by name."""
    from penstock.inference.bundle import MANIFEST, write_manifest
    from service_bundle import make_settings, write_bundle

    write_bundle(folder / "plain", make_settings(folder), items)
    manifest = json.loads((folder / "plain" / MANIFEST).read_text())
    facts = {name: value for name, value in manifest.items() if name not in ("schema", "digest", "files")}
    digests = {}
    for name in (*GOOD, *BAD):
        own = folder / name
        shutil.copytree(folder / "plain", own)
        table = pl.read_parquet(own / "items.parquet").with_columns(title=pl.lit(name))
        table.write_parquet(own / "items.parquet")
        if name == "bad-weights":
            from safetensors.numpy import load_file, save_file

            vectors = load_file(own / "vectors.safetensors")
            vectors["vector"][0] = np.nan
            save_file(vectors, own / "vectors.safetensors")
        digests[name] = write_manifest(own, facts | {"name": name})
    damage(folder / "bad-short" / "rank.onnx", lambda content: content[: len(content) // 2])
    damage(folder / "bad-bit" / "rank.onnx", lambda content: content[:999] + bytes([content[999] ^ 1]) + content[1000:])
    return digests


def damage(path: Path, change: Any) -> None:
    """Alter a file behind its manifest's back."""
    path.write_bytes(change(path.read_bytes()))


class Pointer:
    """A registry that serves whatever a file names."""

    environment = "benchmark"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def champion_pointer(self) -> tuple[str, str, Path]:
        """Number, digest and folder, as the load generator wrote them."""
        number, digest, name = json.loads((self.folder / "pointer.json").read_text())
        return number, digest, self.folder / name


def serve(folder: Path) -> None:
    """The service, until it is ended."""
    from penstock.data.journal import Journal
    from penstock.data.state import open_state
    from penstock.inference.scorer import Scorer
    from penstock.serving.runtime import Runtime
    from penstock.serving.server import answer
    from service_bundle import make_settings

    def load(bundle: Path) -> Scorer:
        try:
            return Scorer.load(bundle)
        finally:
            with (folder / LOADED).open("ab") as marks:
                marks.write(b".")

    settings = make_settings(folder).override({"service.port": PORT})
    journal = Journal(open_state(settings.state.url), settings.data)
    answer(Runtime(Pointer(folder), journal, load, POLL_S), settings)


class Load:
    """Requests at a fixed rate, whether or not earlier ones were answered; times count from when each was due."""

    def __init__(self, rate: float) -> None:
        self.sockets, self.rate = Sockets(PORT, USERS, K), rate
        self.elapsed_ms: list[float] = []
        self.answers: list[tuple[int, bytes]] = []
        self.failed: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, until: asyncio.Event) -> None:
        """Send until told to stop, then wait for the rest."""
        number, started_s = 0, time.perf_counter()
        while not until.is_set():
            due_s = started_s + number / self.rate
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            self._tasks.append(asyncio.create_task(self._one(number, due_s)))
            number += 1
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int, due_s: float) -> None:
        body = {"user_id": f"user-{number % USERS}", "k": K}
        try:
            self.answers.append(await asyncio.wait_for(self.sockets.call("/v1/recommendations", body), PATIENCE_S))
            self.elapsed_ms.append((time.perf_counter() - due_s) * 1000)
        except (OSError, EOFError, TimeoutError) as error:
            self.failed[type(error).__name__] += 1

    def figures(self) -> dict[str, Any]:
        """What came of it."""
        bodies = [json.loads(body) for status, body in self.answers if status == 200]
        mixed = sum({item["title"] for item in body["items"]} != {body["version"].partition("@")[0]} for body in bodies)
        failed = self.failed + Counter(str(status) for status, _ in self.answers if status != 200)
        median, p99 = np.percentile(self.elapsed_ms, [50, 99])
        return {"requests": len(self._tasks), "failed": dict(failed), "mixed": mixed,
                "p50_ms": round(float(median), 2), "p99_ms": round(float(p99), 2)}  # fmt: skip


def swaps_counted() -> dict[str, int]:
    """Swaps that succeeded and failed so far, as the service counts them."""
    lines = httpx.get(f"http://127.0.0.1:{PORT}/metrics").text.splitlines()
    values = {line.split('"')[1]: line.rpartition(" ")[2] for line in lines if line.startswith("penstock_swaps{")}
    return {outcome: int(float(values[outcome])) for outcome in ("swapped", "failed")}


def point(folder: Path, number: int, name: str, digests: dict[str, str]) -> None:
    """Let a bundle be the champion; its number begins with its name, which its titles repeat."""
    part = folder / "pointer.json.part"
    part.write_text(json.dumps([f"{name}@{number}", digests[name], name]))
    part.replace(folder / "pointer.json")


async def measured(folder: Path, digests: dict[str, str], process: psutil.Process, options: Any) -> dict[str, Any]:
    """Steady load, then the same load with swaps."""

    async def swap(number: int) -> None:
        name = BAD[number // 10 % len(BAD)] if number % 10 == 0 else GOOD[number % 2]
        before = (folder / LOADED).stat().st_size
        point(folder, number, name, digests)
        while (folder / LOADED).stat().st_size == before:
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(SETTLE_S)

    for number in range(1, 10):
        await swap(number)
    steady, stop = Load(options.rate), asyncio.Event()
    sending = asyncio.create_task(steady.run(stop))
    await asyncio.sleep(options.steady_s)
    stop.set()
    await sending
    before_mb, counted = process.memory_info().rss / 2**20, swaps_counted()
    under, stop = Load(options.rate), asyncio.Event()
    sending, started_s = asyncio.create_task(under.run(stop)), time.perf_counter()
    for number in range(10, 10 + options.swaps):
        await swap(number)
    took_s = time.perf_counter() - started_s
    stop.set()
    await sending
    after_mb = process.memory_info().rss / 2**20
    return {
        "swaps": options.swaps, "rate": options.rate, "items": options.items, "swapping_s": round(took_s, 1),
        "counted": {outcome: count - counted[outcome] for outcome, count in swaps_counted().items()},
        "steady": steady.figures(), "swapping": under.figures(),
        "p99_ratio": round(under.figures()["p99_ms"] / steady.figures()["p99_ms"], 2),
        "rss_before_mb": round(before_mb), "rss_after_mb": round(after_mb),
        "rss_growth": round(after_mb / before_mb - 1, 3),
    }  # fmt: skip


def wait_ready() -> None:
    """Wait for the first version."""
    for _ in range(1200):
        try:
            if httpx.get(f"http://127.0.0.1:{PORT}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the service was not ready within two minutes")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--steady-s", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        digests = write_bundles(folder, options.items)
        point(folder, 0, GOOD[0], digests)
        service = multiprocessing.get_context("spawn").Process(target=serve, args=(folder,), daemon=True)
        service.start()
        try:
            wait_ready()
            figures = asyncio.run(measured(folder, digests, psutil.Process(service.pid), options))
        finally:
            service.terminate()
            service.join(10)
    measure.save("swaps", figures)


if __name__ == "__main__":
    main()
