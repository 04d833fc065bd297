"""Labelled texts learned online, against a regression refitted on everything: the table in the README.

    python benchmarks/labels.py DATA [--out OUT]

DATA holds `banking77/` and `gold-commodity-news/`, whose licences keep them out of the project. Both go through
`penstock import labels` and the label backtest: 500 texts are labelled, then learned from. BANKING77 has no times, so
the importer shuffles its training rows with seed 7. The rival is scikit-learn's logistic regression on the same frozen
vectors, begun anew on all labels so far after each window; encoding is outside every time. Seconds are of one run, all
methods in one process, one after the other. Writes OUT/<name>/ and OUT/labels.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from penstock.data.dataset import read_dataset
from penstock.data.importers import import_source
from penstock.evaluation.label_report import macro_f1
from penstock.pipeline.backtest_classify import LabelBacktest, run_label_backtest
from penstock.settings import Settings, load_settings

STREAMS = ("banking77", "gold-commodity-news")
PENALTIES = (10.0, 30.0)  # scikit-learn's C
LONGER = {"classifier.iterations": 30, "classifier.texts_visited": 60000}


def note(what: str, done: int, total: int) -> None:
    """One progress line on stderr, rewritten in place."""
    print(f"\r{what}: {done}/{total}    ", end="", file=sys.stderr, flush=True)


def rival(data: Path, settings: Settings, inverse_penalty: float) -> dict[str, Any]:
    """Accuracy and seconds of the full refit, on the very windows and vectors of the backtest."""
    from sklearn.linear_model import LogisticRegression

    backtest = LabelBacktest(read_dataset(data), settings, None)
    parts = [
        (backtest.learner.cache.vectors(part["query"].to_list()).numpy(), backtest.label_rows(part))
        for part in backtest.parts
    ]
    wall_s = cpu_s = 0.0
    guesses, windows = [], []
    for number in range(1, len(parts)):
        wall, cpu = time.perf_counter(), time.process_time()
        text_NT, label_N = (np.concatenate(column) for column in zip(*parts[:number], strict=True))
        model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(text_NT, label_N)
        wall_s, cpu_s = wall_s + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
        guesses.append(model.predict(parts[number][0]))
        windows.append(float((guesses[-1] == parts[number][1]).mean()))
        note(f"refit C={inverse_penalty:g}", number, len(parts) - 1)
    truth_N, guess_N = np.concatenate([label_N for _, label_N in parts[1:]]), np.concatenate(guesses)
    return {
        "accuracy": float((truth_N == guess_N).mean()),
        "mean_window_accuracy": float(np.mean(windows)),
        "macro_f1": macro_f1(guess_N, truth_N),
        "seconds": wall_s,
        "cpu_s": cpu_s,
        "windows": windows,
    }


def run(name: str, source: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """One stream: the model fresh and never, the model given more time, the rivals."""
    data = out / name / "data"
    import_source("labels", source, data, {})
    summary = run_label_backtest(data, out / name, settings, None, note)
    longer = run_label_backtest(data, out / name / "longer", settings.override(LONGER), None, note)
    methods: dict[str, Any] = dict(summary["methods"])
    methods["fresh"] |= {"seconds": summary["compute_s"]["fresh"], "cpu_s": summary["measured"]["fresh_cpu_s"]}
    methods["never"] |= {"seconds": summary["compute_s"]["never"]}
    methods["fresh, fitted longer"] = longer["methods"]["fresh"] | {
        "seconds": longer["compute_s"]["fresh"],
        "cpu_s": longer["measured"]["fresh_cpu_s"],
    }
    for inverse_penalty in PENALTIES:
        methods[f"refit, C={inverse_penalty:g}"] = rival(data, settings, inverse_penalty)
    return {"methods": methods, "freshness": summary["freshness"], "protocol": summary["protocol"]}


def table(name: str, result: dict[str, Any]) -> str:
    """The README's rows of one stream."""
    lines = [f"{name}: {result['protocol']['texts']} texts, {result['protocol']['labels']} labels"]
    lines.append("| method | accuracy | mean over windows | macro F1 | learning, s |")
    for method, row in result["methods"].items():
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else "–"
        figures = f"{row['accuracy']:.4f} | {row['mean_window_accuracy']:.4f} | {row['macro_f1']:.3f}"
        lines.append(f"| {method} | {figures} | {seconds} |")
    gap = result["freshness"]
    lines.append(f"fresh minus never: {gap['accuracy']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    return "\n".join(lines)


def main() -> None:
    """Both streams, one after the other, on a frozen encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("PENSTOCK_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("artifacts/labels"))
    parser.add_argument("--only", choices=STREAMS)
    options = parser.parse_args()
    if options.data is None:
        print("labels: not run; name the folder of the two sets, or set PENSTOCK_REAL_DATA")
        return
    settings = load_settings().override({"text.tuning": "frozen", "backtest.window_texts": 500})
    result: dict[str, Any] = {"machine": {"processor": platform.processor(), "cores": os.cpu_count()}}
    for name in [options.only] if options.only else STREAMS:
        result[name] = run(name, Path(options.data) / name, options.out, settings)
        print(table(name, result[name]), flush=True)
    (options.out / "labels.json").write_text(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    main()
