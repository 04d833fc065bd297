"""Pull to the champion, and learning rate from the loss: chosen on the warm-up's last quarter.

    python benchmarks/stability.py A B --cache DIR [--windows 12 --warm 2000 --learned 120 --scored 80]

A, B: folders that penstock import wrote. As benchmarks/ablation.py, with the warm-up's last quarter in the stream's
place, so that nothing here has seen the stream. Writes benchmarks/results/stability.json after every run.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import measure
from ablation import SEEDS, WHOLE, summary
from penstock.data.dataset import read_dataset
from penstock.settings import load_settings
from replayed import Size, learner_of, run, stored, users

CHANGES: dict[str, dict[str, float]] = {
    WHOLE: {},
    "pull to the champion, 30": {"training.proximal": 30.0},
    "rate from the loss, power 4": {"training.rate_adaptation": 4.0},
}


def main() -> None:
    """One log after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders that penstock import wrote")
    parser.add_argument("--cache", type=Path, required=True)
    for name in ("windows", "warm", "learned", "scored"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size, name))
    options = parser.parse_args()
    size = Size(options.windows, options.warm, options.learned, options.scored, last_quarter=True)
    found: dict[str, Any] = {}
    for log in options.data:
        folder = options.cache / f"{log.name}-last-quarter"
        settings = load_settings().override({"text.tuning": "frozen", "state.home": str(options.cache / "home")})
        settings = settings.override({"data.repeats": read_dataset(log).meta.repeats})
        done = stored(folder / "whole", log, settings, size)
        vectors, user_R = learner_of(done, settings, None).text_NT, users(done)
        ndcg: dict[str, NDArray[np.float64]] = {}
        for name, changes in CHANGES.items():
            path = folder / f"{re.sub('[^a-z0-9]+', '-', name)}.npy"
            if not path.exists():
                seeds = [settings.override({**changes, "seed": seed}) for seed in SEEDS]
                runs = [run(done, learner_of(done, one, vectors), lambda batch, _: batch) for one in seeds]
                np.save(path, np.stack(runs))
            ndcg[name] = np.load(path)
            measure.note(f"{log.name}: {name}: {ndcg[name].mean():.4f}")
            facts = {"warm_up_requests": len(done.warm), "windows": len(done.stream), "scored_requests": len(user_R)}
            found[log.name] = facts | {"variants": summary(ndcg, user_R)}
            measure.save("stability", {"seeds": list(SEEDS), "logs": found})


if __name__ == "__main__":
    main()
