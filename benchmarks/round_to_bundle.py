"""From a closed snapshot of 1,000 interactions over 10,000 items to a gated ONNX bundle.

    python benchmarks/round_to_bundle.py [--items 10000] [--rounds 6]

Runs the rounds that the flows run, one after the other, over a simulated shop. The first round also encodes the whole
catalogue and exports the graphs, both of which are kept: it is stated apart. Items are titles of 12 tokens. An
interaction is a click, purchase or rating; impressions come on top.
"""

import argparse
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

import measure
from penstock.data.dataset import Dataset, write_dataset
from penstock.data.journal import Journal
from penstock.data.simulate import simulate
from penstock.pipeline.ledger import opened
from penstock.pipeline.online import close, decide, judge, learn, round_lease, validate
from penstock.records import RoundResult
from penstock.settings import Settings, load_settings
from workload import ROOT

INTERACTIONS = 1000


def make_settings(home: Path, items: int, rounds: int) -> Settings:
    """params.yaml over a shop of so many items, everything written under `home`."""
    return load_settings(ROOT / "params.yaml", {}).override(
        {
            "state.home": str(home / "var"),
            "state.url": f"sqlite:///{home}/state.db",
            "data.user_key_file": str(home / "users.json"),
            "data.dir": str(home / "data"),
            "registry.tracking_uri": f"sqlite:///{home}/mlflow.db",
            "registry.artifacts": str(home / "artifacts"),
            "promotion.policy": "automatic",
            "validation.volume_factor": 1000.0,
            "simulate.items": items,
            "simulate.users": 1000,
            "simulate.days": 1,
            "simulate.requests_per_day": 1600 * (rounds + 1),
            "simulate.item_life_h": 300,
        }
    )


def slices(dataset: Dataset, rounds: int) -> list[pl.DataFrame]:
    """The log in parts of 1,000 interactions each."""
    events = dataset.events.sort("at", "event_id")
    number = (events["kind"] != "impression").cum_sum() // INTERACTIONS
    if number[-1] < rounds:
        raise SystemExit(f"the log holds {number[-1]} thousand interactions; asked for {rounds} rounds")
    return [events.filter(number == index) for index in range(rounds)]


def one_round(settings: Settings, events: pl.DataFrame) -> tuple[RoundResult, float, float]:
    """Journal and close, then the timed part: seconds until the bundle is judged, and until it serves."""
    now = events["at"].max() + timedelta(minutes=6)  # type: ignore[operator]
    Journal(opened(settings), settings.data).append(events.with_columns(received_at=pl.col("at")), now)
    with round_lease(settings):
        manifest = close(settings, now)
        assert manifest is not None
        started = time.perf_counter()
        judged = judge(settings, learn(settings, manifest, validate(settings, manifest)))
        gated_s = time.perf_counter() - started
        result = decide(settings, judged)
        return result, gated_s, time.perf_counter() - started


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    found: list[tuple[RoundResult, float, float]] = []
    with tempfile.TemporaryDirectory() as home:
        settings = make_settings(Path(home), options.items, options.rounds)
        dataset, _ = simulate(settings.simulate, settings.seed)
        titled = dataset.catalogue.with_columns(body=pl.lit(None, pl.String))
        write_dataset(Dataset(dataset.events[:9], titled, dataset.meta), settings.data.dir)
        for events in slices(dataset, options.rounds):
            found.append(one_round(settings, events))
            measure.note(f"round: {found[-1][1]:.1f} s, {found[-1][0].outcome}, {found[-1][0].stages_s}")
    later = found[1:]
    stages: dict[str, Any] = {
        name: measure.median([result.stages_s[name] for result, _, _ in later]) for name in later[0][0].stages_s
    }
    measure.save(
        "round_to_bundle",
        {
            "items": options.items,
            "interactions": INTERACTIONS,
            "first_round_s": found[0][1],
            "first_round_stages_s": found[0][0].stages_s,
            "gated_bundle_s": [gated_s for _, gated_s, _ in later],
            "gated_bundle_median_s": measure.median([gated_s for _, gated_s, _ in later]),
            "decided_median_s": measure.median([decided_s for _, _, decided_s in later]),
            "stages_median_s": stages,
            "outcomes": [result.outcome for result, _, _ in found],
            "peak_gb": measure.peak_gb(),
        },
    )


if __name__ == "__main__":
    main()
