"""What labelling a stream came to, window by window, and its page. N texts, K labels."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import GateError
from penstock.evaluation.comparison import Bootstrap
from penstock.evaluation.gate_page import render
from penstock.evaluation.whole_file import write_whole
from penstock.metrics import Floats, bootstrap_mean, class_log_loss, correct, paired_bootstrap


@dataclass(frozen=True)
class Guesses:
    """Scored texts in stream order.

    Attributes:
        probability: by method, float32 [N, K].
        label_N: true labels, int64.
        window_N: window of each text, rising, int64.
        window_at: start of each distinct window, ISO-8601.
        labels: names of the K labels.
    """

    probability: Mapping[str, NDArray[np.float32]]
    label_N: NDArray[np.int64]
    window_N: NDArray[np.int64]
    window_at: list[str]
    labels: list[str]


def macro_f1(guess_N: NDArray[np.int64], label_N: NDArray[np.int64]) -> float:
    """Mean, over the labels that occur, of the harmonic mean of precision and recall; 0 for one that is never hit."""
    scores = []
    for label in np.unique(label_N):
        both = np.sum((guess_N == label) & (label_N == label))
        scores.append(2.0 * both / (np.sum(guess_N == label) + np.sum(label_N == label)))
    return float(np.mean(scores))


def summarise_labels(guesses: Guesses, bootstrap: Bootstrap) -> dict[str, Any]:
    """Accuracy by method over all texts and as a mean over windows, curves, and what freshness brought.

    The intervals are bootstraps over texts, which have no users.

    Raises:
        GateError: a probability that is none, or no text.
    """
    hit = {name: correct(value.argmax(1), guesses.label_N) for name, value in guesses.probability.items()}
    drawn = (bootstrap.resamples, bootstrap.seed, bootstrap.confidence)
    text_N = np.arange(len(guesses.label_N))
    methods: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    for name, value_NK in guesses.probability.items():
        mean, low, high = bootstrap_mean(hit[name], text_N, *drawn)
        rows = _curve(hit[name], guesses)
        methods[name] = {
            "accuracy": mean,
            "accuracy_ci95": [low, high],
            "mean_window_accuracy": float(np.mean([row["accuracy"] for row in rows])),
            "macro_f1": macro_f1(value_NK.argmax(1), guesses.label_N),
            "log_loss": float(class_log_loss(np.clip(value_NK, 0.0, 1.0), guesses.label_N).mean()),
            "texts": len(text_N),
        }
        curves[name] = rows
    gain, low, high = paired_bootstrap(hit["fresh"], hit["never"], text_N, *drawn)
    return {
        "task": "classify",
        "confidence": bootstrap.confidence,
        "methods": methods,
        "freshness": {"accuracy": gain, "low": low, "high": high, "texts": len(text_N)},
        "curves": curves,
    }


def _curve(hit_N: Floats, guesses: Guesses) -> list[dict[str, Any]]:
    rows = []
    for window, at in zip(np.unique(guesses.window_N).tolist(), guesses.window_at, strict=True):
        part = hit_N[guesses.window_N == window]
        rows.append({"window": window, "at": at, "accuracy": float(part.mean()), "texts": len(part)})
    return rows


def freshness_sentence(summary: Mapping[str, Any]) -> str:
    """What learning from each window brought, in words."""
    gap = summary["freshness"]
    verdict = "beats" if gap["low"] > 0 else "loses to" if gap["high"] < 0 else "cannot be told from"
    return (
        f"“fresh” {verdict} “never”: accuracy {gap['accuracy']:+.4f}, {summary['confidence']:.0%} interval "
        f"{gap['low']:+.4f} to {gap['high']:+.4f} by paired bootstrap over {gap['texts']} texts."
    )


def write_label_report(out: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json and report.html into `out`, each whole or not at all.

    Raises:
        GateError: a figure that is not finite.
    """
    try:
        text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError) as error:
        raise GateError(f"label report: {error}; a figure that is not finite cannot be reported") from error
    names = list(summary["methods"])
    windows = [
        {"rows": rows, "at": rows[0]["at"], "texts": rows[0]["texts"]}
        for rows in zip(*(summary["curves"][name] for name in names), strict=True)
    ]
    page = render("label_report.html", summary=summary, names=names, windows=windows, said=freshness_sentence(summary))
    write_whole(out / "summary.json", text.encode())
    write_whole(out / "report.html", page.encode())
