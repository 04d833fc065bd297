"""Online Retail and MovieLens 100K through import and backtest: the table in the README.

    python benchmarks/real_streams.py DATA [--out OUT]

DATA holds `movielens-100k/` and `online-retail/`, which their licences forbid to ship. Protocol: the first 60% of the
events warm up; the rest is cut into 40 windows of equal duration; each is scored, then learned from. Prints the table
and writes OUT/<name>/ (rankings, summary.json, report.html) and OUT/real_streams.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from penstock.data.importers import import_source
from penstock.pipeline.backtest_run import run_backtest
from penstock.settings import load_settings

STREAMS = {"online-retail": "online-retail", "movielens-100k": "movielens"}


def note(what: str, done: int, total: int) -> None:
    """One progress line on stderr, rewritten in place."""
    print(f"\r{what}: {done}/{total}    ", end="", file=sys.stderr, flush=True)


def run(name: str, source: Path, out: Path) -> dict[str, Any]:
    """Import and replay one log."""
    settings = load_settings().override({"backtest.windows": 40, "backtest.warmup": 0.6})
    import_source(STREAMS[name], source, out / name / "data", {})
    started = time.perf_counter()
    summary = run_backtest(out / name / "data", out / name, settings, ["fresh", "never"], note, restart=True)
    summary["wall_s"] = time.perf_counter() - started
    return summary


def table(name: str, summary: dict[str, Any]) -> str:
    """The README's rows of one stream."""
    new_users = summary["slices"]["new users"]["methods"]
    lines = [f"{name}: {summary['protocol']['requests']} requests, {summary['wall_s']:.0f} s"]
    for method, row in summary["methods"].items():
        low, high = row["ndcg@10_ci95"]
        figures = f"{row['ndcg@10']:.4f} [{low:.3f}, {high:.3f}] | {row['hr@10']:.3f} | {row['recall@100']:.3f}"
        lines.append(f"| {method} | {figures} | {new_users[method]['ndcg@10']:.3f} |")
    gap = summary["freshness"]
    lines.append(f"fresh minus never: {gap['ndcg@10']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    return "\n".join(lines)


def main() -> None:
    """Both streams, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("PENSTOCK_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("artifacts/real_streams"))
    parser.add_argument("--only", choices=STREAMS)
    options = parser.parse_args()
    if options.data is None:
        print("real_streams: not run; name the folder of the two logs, or set PENSTOCK_REAL_DATA")
        return
    result: dict[str, Any] = {"machine": {"processor": platform.processor(), "cores": os.cpu_count()}}
    for name in [options.only] if options.only else STREAMS:
        result[name] = run(name, Path(options.data) / name, options.out)
        print(table(name, result[name]), flush=True)
    (options.out / "real_streams.json").write_text(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    main()
