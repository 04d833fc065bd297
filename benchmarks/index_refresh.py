"""How long re-embedding the index takes after a round, for each tuning method.

    python benchmarks/index_refresh.py [--items 65000] [--part 1024]

Items of 32 tokens. Methods that keep means of layers are measured over all items; those that run tokens through layers
over a part of them, and stated for all by their number. What is kept is random here: its values do not matter to the
time, and making it for 65,000 items does. `frozen` and items whose encoder did not move are not encoded at all.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import measure
from penstock.features.state import FeatureSpec
from penstock.model.activations import FileStore
from penstock.training.learner import Learner
from workload import make_settings

TOKENS = 32
WHOLE = ("side_adapter",)
METHODS: dict[str, dict[str, Any]] = {
    "side_adapter": {"text.tuning": "side_adapter"},
    "lora, top layer": {"text.tuning": "lora", "text.tuned_layers": 1},
    "lora, top 2 layers": {"text.tuning": "lora"},
    "bottleneck, top layer": {"text.tuning": "bottleneck", "text.tuned_layers": 1},
    "top layer": {"text.tuning": "top_layers", "text.tuned_layers": 1},
    "full": {"text.tuning": "full"},
}


def filled(learner: Learner, items: int) -> None:
    """Give the learner texts whose frozen part is done: random numbers where the encoder's would be."""
    texts = [f"item {number}" for number in range(items)]
    random = np.random.default_rng(0)
    cut, rows = learner.encoder.reach.cut, learner.encoder.n_layers + 1
    if cut == "tokens":
        learner.cache._tokens |= {text: random.integers(1000, 30000, TOKENS) for text in texts}
    else:
        assert isinstance(learner.cache.store, FileStore)
        shape = (rows if cut == "means" else TOKENS, learner.encoder.width)
        for start in range(0, items, 4096):
            some = texts[start : start + 4096]
            learner.cache.store.put(some, list(random.standard_normal((len(some), *shape), np.float32)))
    learner.texts = texts
    learner.text_NT = torch.zeros(items, learner.encoder.width)
    learner.stale_N = np.ones(items, bool)


def measured(home: Path, name: str, items: int, part: int) -> dict[str, Any]:
    """Five refreshes, and the time for all items."""
    count = items if METHODS[name]["text.tuning"] in WHOLE else part
    settings = make_settings(home, **METHODS[name])
    learner = Learner(settings, FeatureSpec.of(settings))
    filled(learner, count)
    rows = np.arange(count)
    refresh_s = measure.repeated(lambda: learner.refresh(rows))
    return {
        "items": count,
        "refresh_s": refresh_s,
        "all_items_s": measure.median(refresh_s) * items / count,
        "scaled": count != items,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=65_000)
    parser.add_argument("--part", type=int, default=1024)
    options = parser.parse_args()
    figures: dict[str, Any] = {"items": options.items, "tokens": TOKENS, "methods": {}}
    with tempfile.TemporaryDirectory() as home:
        for name in METHODS:
            measure.note(name)
            figures["methods"][name] = measured(Path(home), name, options.items, options.part)
    measure.save("index_refresh", figures | {"peak_gb": measure.peak_gb()})


if __name__ == "__main__":
    main()
