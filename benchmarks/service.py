"""The service under load: latency by rate, start, memory, how soon a new item is recommendable, recall of the index.

    python benchmarks/service.py [--items 65000] [--rates 100 200 400 800] [--seconds 20] [--processes 1]
        [--folder FOLDER]

The real process (`penstock serve`) over a made-up bundle (service_bundle.py), loaded from another process
(service_load.py). Generator and service share the machine. With --folder the bundle is kept and used again.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

import measure

HERE = Path(__file__).parent
PORT = 8471
STARTS = 5
ALONE_S = 10


def environment(folder: Path, processes: int) -> dict[str, str]:
    """What lets `penstock serve` find the made-up bundle."""
    values = {
        "STATE__HOME": folder / "var",
        "STATE__URL": f"sqlite:///{folder}/var/state.db",
        "DATA__USER_KEY_FILE": folder / "users.json",
        "REGISTRY__TRACKING_URI": f"sqlite:///{folder}/var/mlflow.db",
        "REGISTRY__ARTIFACTS": folder / "var" / "artifacts",
        "SERVICE__PORT": PORT,
        "SERVICE__PROCESSES": processes,
    }
    return os.environ | {f"PENSTOCK__{name}": str(value) for name, value in values.items()}


class Service:
    """The process, from its start to its end."""

    def __init__(self, folder: Path, processes: int = 1) -> None:
        self.started = time.perf_counter()
        command = [sys.executable, "-m", "penstock.cli", "serve"]
        log = (folder / "service.log").open("w")
        self.process = subprocess.Popen(
            command, env=environment(folder, processes), stdout=log, stderr=log, cwd=HERE.parent
        )
        self.ready_s = self._wait()

    def _wait(self) -> float:
        while time.perf_counter() - self.started < 180:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5).read()
                return time.perf_counter() - self.started
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    raise SystemExit("the service ended; see service.log in the folder") from None
                time.sleep(0.01)
        self.stop()
        raise SystemExit("the service was not ready within three minutes")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(urllib.request.urlopen(request, timeout=60).read())

    def processes(self) -> list[psutil.Process]:
        """The parent, and its workers where there are any."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def memory_gb(self) -> float:
        """Resident memory, of all processes; what they share counts for each."""
        return sum(one.memory_info().rss for one in self.processes()) / 2**30

    def processor_s(self) -> float:
        """Processor time so far, all threads of all processes."""
        times = [one.cpu_times() for one in self.processes()]
        return sum(one.user + one.system for one in times)

    def has_torch(self) -> bool:
        """Whether any library of torch is mapped."""
        return any("libtorch" in region.path for one in self.processes() for region in one.memory_maps())

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)


def new_item_s(service: Service) -> float:
    """Seconds from posting an item, alone in its category, until a list of that category holds it.

    A worker that has not taken it in yet refuses the category, which it does not know.
    """
    item = f"posted-{time.time_ns()}"
    started = time.perf_counter()
    service.post("/v1/items", {"items": [{"item_id": item, "title": "A new item of the catalogue", "category": item}]})
    while True:
        try:
            answer = service.post("/v1/recommendations", {"user_id": "user-1", "filters": {"category": [item]}})
            if item in [found["item_id"] for found in answer["items"]]:
                return time.perf_counter() - started
        except urllib.error.HTTPError as error:
            if error.code != 422:
                raise
        if time.perf_counter() - started > 10:
            raise SystemExit(f"{item} is not recommendable after ten seconds")


def load(rate: float, seconds: float, events: float = 10) -> dict[str, Any]:
    """What the generator saw at so many requests and events a second."""
    options = {"--rate": rate, "--seconds": seconds, "--events": events}
    command = [sys.executable, str(HERE / "service_load.py"), str(PORT), *map(str, itertools.chain(*options.items()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def processor_ms(service: Service) -> dict[str, float]:
    """Processor time of an answer and of an event, each by itself."""
    found = {}
    for what, rate, events in (("answer", 60, 0), ("event", 1, 60)):  # a generator without requests has no figures
        before_s = service.processor_s()
        load(rate, ALONE_S, events)
        found[what] = round((service.processor_s() - before_s) / (60 * ALONE_S) * 1e3, 2)
    return found


def index_recall(folder: Path) -> dict[str, Any]:
    """Recall at 100 of the index against exact search."""
    code = f"""
import json, time
from pathlib import Path
import numpy as np
from penstock.inference.scorer import Scorer
scorer = Scorer.load(Path({str(folder / "made")!r}))
state, found, taken = scorer.state, [], []
users = state.histories.users()[:200]
vectors = [scorer.user_vector(state.histories.of(user), state.counted_s) for user in users]
scorer.nearest(vectors[0], 100)
for vector in vectors:
    started = time.perf_counter()
    rows = scorer.nearest(vector, 100)
    taken.append(time.perf_counter() - started)
    found.append(len(set(rows.tolist()) & set(scorer.engine.nearest(vector, 100).tolist())) / 100)
facts = dict(recall=float(np.mean(found)), median_ms=float(np.median(taken)) * 1e3, users=len(users))
print(json.dumps(facts))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)
    return json.loads(done.stdout)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=65_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = (arguments.folder or Path(own)).absolute()
        if not (folder / "made").is_dir():
            measure.note(f"making {arguments.items:,} items")
            folder.mkdir(parents=True, exist_ok=True)
            make = [sys.executable, "-W", "ignore", str(HERE / "service_bundle.py"), str(folder)]
            subprocess.run([*make, "--items", str(arguments.items)], check=True)
        figures: dict[str, Any] = {
            "items": arguments.items,
            "processes": arguments.processes,
            "starts_s": [],
            "rates": [],
        }
        for _ in range(arguments.starts - 1):
            service = Service(folder, arguments.processes)
            figures["starts_s"].append(round(service.ready_s, 2))
            service.stop()
        service = Service(folder, arguments.processes)
        try:
            figures["starts_s"].append(round(service.ready_s, 2))
            load(50, 2)
            for rate in arguments.rates:
                measure.note(f"{rate:g} requests a second")
                figures["rates"].append(load(rate, arguments.seconds))
            figures["processor_ms"] = processor_ms(service)
            figures["new_item_s"] = [round(new_item_s(service), 3) for _ in range(5)]
            figures["memory_gb"] = round(service.memory_gb(), 2)
            figures["torch_loaded"] = service.has_torch()
        finally:
            service.stop()
        figures["index"] = index_recall(folder)
    several = f"_{arguments.processes}_processes" if arguments.processes > 1 else ""
    measure.save(f"service_{arguments.items}{several}", figures)


if __name__ == "__main__":
    main()
