"""The picture of a backtest: quality over the stream, and the running gain of fresh over stale."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from penstock.metrics import Floats

Curve = Sequence[Mapping[str, Any]]
SMOOTHED_WINDOWS = 5
MODEL_COLOURS = ("#1f5fbf", "#c2410c", "#6d28d9", "#0f766e", "#a16207")
BASELINE_DASHES = ((1, 1), (4, 2), (6, 2, 1, 2), (8, 3), (2, 3))


def draw_curves(curves: Mapping[str, Curve], models: Sequence[str], fresh: str | None, stale: str | None) -> bytes:
    """PNG bytes: NDCG@10 per window (mean over five, by requests; dots: single windows of `models`).

    Args:
        curves: rows as `comparison.curve` makes them, by method; empty ones are left out.
        models: the methods that learn; the others are drawn dashed, as baselines.
        fresh, stale: with both, a second panel shows their running difference.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pair = fresh in curves and stale in curves and bool(curves[str(fresh)]) and bool(curves[str(stale)])
    figure = Figure(figsize=(11, 7.2 if pair else 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if pair else 1, 1, sharex=True, squeeze=False, height_ratios=[2.2, 1] if pair else [1])
    _quality(axes[0, 0], curves, models)
    if pair:
        _gain(axes[1, 0], curves[str(fresh)], curves[str(stale)], str(fresh), str(stale))
    axes[-1, 0].set_xlabel("start of window (UTC)")
    axes[-1, 0].tick_params(axis="x", rotation=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def smooth(value_W: Floats, weight_W: Floats, windows: int = SMOOTHED_WINDOWS) -> Floats:
    """Mean over up to `windows` windows around each one, weighted by requests."""
    kernel = np.ones(min(windows, len(value_W)))
    weighted_W = np.convolve(value_W * weight_W, kernel, mode="same")
    return np.asarray(weighted_W / np.maximum(np.convolve(weight_W, kernel, mode="same"), 1e-12), np.float64)


def running_gain(fresh: Curve, stale: Curve) -> Floats:
    """Fresh minus stale NDCG@10 over all requests up to and including each window."""
    requests_W = column(fresh, "requests")
    gain_W = (column(fresh, "ndcg") - column(stale, "ndcg")) * requests_W
    return np.asarray(np.cumsum(gain_W) / np.maximum(np.cumsum(requests_W), 1), np.float64)


def mean_of(curve: Curve) -> float:
    """NDCG@10 over all requests of a curve."""
    requests_W = column(curve, "requests")
    return float((column(curve, "ndcg") * requests_W).sum() / max(requests_W.sum(), 1))


def column(curve: Curve, name: str) -> Floats:
    """One column of a curve as float64."""
    return np.asarray([row[name] for row in curve], np.float64)


def _times(curve: Curve) -> list[datetime]:
    return [datetime.fromisoformat(str(row["at"])) for row in curve]


def _quality(axis: Any, curves: Mapping[str, Curve], models: Sequence[str]) -> None:
    colours, dashes = iter(MODEL_COLOURS * 9), iter(BASELINE_DASHES * 9)
    means = {name: mean_of(curve) for name, curve in curves.items() if curve}
    for name in sorted(means, key=lambda name: (name not in models, -means[name])):
        curve = curves[name]
        ndcg_W, requests_W = column(curve, "ndcg"), column(curve, "requests")
        label = f"{name}  {means[name]:.4f}"
        if name in models:
            colour = next(colours)
            axis.plot(_times(curve), ndcg_W, ".", color=colour, alpha=0.3, markersize=5)
            axis.plot(_times(curve), smooth(ndcg_W, requests_W), color=colour, linewidth=2.2, label=label)
        else:
            line = axis.plot(_times(curve), smooth(ndcg_W, requests_W), color="#6b7280", linewidth=1.3, label=label)
            line[0].set_dashes(next(dashes))
    axis.set_ylabel("NDCG@10")
    axis.set_ylim(bottom=0)
    axis.set_title("Quality over the stream, each window scored before it is learned from", loc="left", fontsize=11)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title="mean over all requests")
    _tidy(axis)


def _gain(axis: Any, fresh: Curve, stale: Curve, fresh_name: str, stale_name: str) -> None:
    shared = {row["window"] for row in fresh} & {row["window"] for row in stale}
    fresh = [row for row in fresh if row["window"] in shared]
    stale = [row for row in stale if row["window"] in shared]
    gain_W = running_gain(fresh, stale)
    axis.axhline(0, color="#6b7280", linewidth=1)
    axis.plot(_times(fresh), gain_W, color=MODEL_COLOURS[0], linewidth=2)
    axis.fill_between(_times(fresh), gain_W, 0, color=MODEL_COLOURS[0], alpha=0.15, linewidth=0)
    axis.set_ylabel("NDCG@10 gained")
    axis.set_title(f"{fresh_name} minus {stale_name}, all requests so far", loc="left", fontsize=11)
    _tidy(axis)


def _tidy(axis: Any) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=4, maxticks=9)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
