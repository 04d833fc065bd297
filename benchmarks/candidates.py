"""Recall of the candidate sources and of two ways to merge them, on a real log, without a model.

    python benchmarks/candidates.py movielens FOLDER | online-retail FOLDER [--requests 1500] [--count 200]

The log is walked in order of time; counters move with every event. After the first 60% of the events, requests spread
evenly over the rest are asked of every source before they are counted. `turns`: equal turns; `yields`: places by what
the sources were worth on the sampled requests before (features.yields). The model's own source is left out: the
backtest measures it (`penstock backtest`).
"""

import argparse
import tempfile
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

import measure
from penstock.data.dataset import read_dataset
from penstock.data.importers import import_source
from penstock.data.requests import group_requests
from penstock.features.examples import walk
from penstock.features.spec import FeatureSpec
from penstock.features.state import CausalState
from penstock.features.yields import Yields
from penstock.inference.candidates import AGAIN, FRESH, POPULAR, TOGETHER, Allowed, again, merged, together
from penstock.settings import load_settings

ROOT = Path(__file__).parents[1]
WARM_UP = 0.6


def in_turns(lists: dict[str, np.ndarray], count: int) -> list[int]:
    """One from each list in turn."""
    mixed = chain.from_iterable(zip_longest(*(row_P.tolist() for row_P in lists.values())))
    return list(islice(dict.fromkeys(row for row in mixed if row is not None), count))


def recalls(folder: Path, requests: int, count: int) -> dict[str, Any]:
    """Mean recall by source and by way of merging."""
    settings = load_settings(ROOT / "params.yaml", {}).override({"data.dir": str(folder)})
    dataset = read_dataset(folder)
    settings = settings.override({"data.repeats": dataset.meta.repeats})
    grouped = group_requests(dataset.events, settings.data.gains, settings.data.positive_rating_min)
    start = dataset.events["at"].sort()[int(WARM_UP * len(dataset.events))]
    stream = [
        n for n, (at, wanted) in enumerate(grouped.select("at", "relevant").iter_rows()) if at >= start and wanted
    ]
    sampled = set(stream[:: max(1, len(stream) // requests)])
    state, yields = CausalState(FeatureSpec.of(settings)), Yields()
    state.add_items(dataset.catalogue)
    found: dict[str, list[float]] = {}
    for number, asked in enumerate(walk(state, dataset.events, grouped, "event")):
        if number not in sampled:
            continue
        allowed = Allowed(state, asked.at_s, None if dataset.meta.repeats else asked.history.row_L)
        wide = allowed.reach(count)
        lists = {POPULAR: state.trending.top(asked.at_s, wide), FRESH: state.newest.top(asked.at_s, wide)}
        if len(asked.history):
            lists |= {
                TOGETHER: together(state, asked.history, asked.at_s, wide),
                AGAIN: again(asked.history, wide),
            }
        lists = {name: row_P[allowed.of(row_P)][:count] for name, row_P in lists.items()}
        wanted = {state.row_of[item] for item in asked.request["relevant"]}
        merges = {"turns": in_turns(lists, count), "yields": merged(lists, count, yields).row_C.tolist()}
        yields.observe(lists, wanted)
        for name in (POPULAR, FRESH, TOGETHER, AGAIN):
            merges[name] = lists[name].tolist() if name in lists else []
        for name, rows in merges.items():
            found.setdefault(name, []).append(len(wanted & set(rows)) / len(wanted))
    return {
        "count": count,
        "requests": len(sampled),
        "items": len(state.items),
        "recall": {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())},
    }


def main() -> None:
    """Import, walk, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("source", type=Path)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        import_source(arguments.kind, arguments.source, Path(folder) / "data", {})
        figures = recalls(Path(folder) / "data", arguments.requests, arguments.count)
    measure.save(f"candidates_{arguments.kind.replace('-', '_')}", figures)


if __name__ == "__main__":
    main()
