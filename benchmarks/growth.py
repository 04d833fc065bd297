"""What a round costs as the log and the catalogue grow tenfold.

    python benchmarks/growth.py [--items 2100] [--requests 400]

Events x10: the same catalogue, a round of ten times as many requests. Catalogue x10: the same requests
over the same active items, with nine times as many items beside them that nobody is shown. A round is everything from
events to the new vectors: features, learning, the encoder's step and re-embedding.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import measure
from penstock.export.rank import item_vectors
from penstock.training.learner import Learner
from workload import SIZES, Workload, make_settings, make_workload


def measured(work: Workload) -> dict[str, Any]:
    """Five rounds after the first."""
    learner = Learner(work.settings, work.spec)
    learner.add_texts(work.texts)

    def one_round() -> None:
        learner.learn(work.learned)
        item_vectors(learner.task.model, learner.text_NT)

    learn_s = measure.repeated(one_round)
    return {
        "requests": len(work.learned),
        "items": len(work.texts),
        "features_s": work.feature_s,
        "learn_s": learn_s,
        "of_it_encoder_s": learner.last_report.text_seconds,
        "round_s": measure.median(learn_s) + work.feature_s,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=SIZES["simulate.items"])
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = make_settings(Path(home), **{"simulate.items": options.items})
        base = measured(make_workload(settings, options.requests, 10))
        events = measured(make_workload(settings, options.requests * 10, 10))
        catalogue = measured(make_workload(settings, options.requests, 10, options.items * 9))
    figures = {
        "base": base,
        "events_x10": events,
        "catalogue_x10": catalogue,
        "events_x10_costs": events["round_s"] / base["round_s"],
        "catalogue_x10_costs": catalogue["round_s"] / base["round_s"],
    }
    measure.save("growth", figures)


if __name__ == "__main__":
    main()
