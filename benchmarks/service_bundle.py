"""A bundle of N made-up items with the real graphs, registered and promoted, for the benchmark of the service.

    python benchmarks/service_bundle.py FOLDER [--items 65000]

Item vectors lie in clusters (a centre plus as much noise again, clusters of Zipf sizes); users have tastes of a few
clusters and a past of their own. Encoder, user tower and ranking head are the exported ones, with their first weights:
the time of an answer does not depend on what they learned.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from penstock.data.pseudonyms import user_names
from penstock.data.state import open_state
from penstock.export.bundle import BundleWriter, library_versions
from penstock.features.state import CausalState, FeatureSpec
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS, GateReport, GateResult, Lineage
from penstock.registry.promotion import promote
from penstock.registry.store import open_registry
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
USERS, PAST, CATEGORIES = 3_000, 30, 40
START = datetime(2026, 3, 1, tzinfo=UTC)
SEED = 7


def make_settings(folder: Path) -> Settings:
    """params.yaml with everything written under `folder`, promoted without asking."""
    return load_settings(ROOT / "params.yaml", {}).override(
        {
            "state.home": str(folder / "var"),
            "state.url": f"sqlite:///{folder}/var/state.db",
            "data.user_key_file": str(folder / "users.json"),
            "registry.tracking_uri": f"sqlite:///{folder}/var/mlflow.db",
            "registry.artifacts": str(folder / "var" / "artifacts"),
            "promotion.policy": "automatic",
        }
    )


@dataclass(frozen=True)
class MadeUp:
    """N items in clusters. `centre_KE`: the clusters' centres; `cluster_N`: which one each item is of."""

    vector_NE: np.ndarray
    centre_KE: np.ndarray
    cluster_N: np.ndarray


def make_vectors(items: int, width: int) -> MadeUp:
    """Clustered vectors: about the square root of N clusters, of Zipf sizes."""
    random = np.random.default_rng(SEED)
    clusters = int(items**0.5)
    centre_KE = random.standard_normal((clusters, width)).astype(np.float32)
    share_K = 1.0 / np.arange(1, clusters + 1) ** 0.7
    cluster_N = random.choice(clusters, items, p=share_K / share_K.sum())
    noise_NE = random.standard_normal((items, width), dtype=np.float32)
    return MadeUp(centre_KE[cluster_N] + noise_NE, centre_KE, cluster_N)


def catalogue_of(made: MadeUp) -> pl.DataFrame:
    """Titles of a few words, categories by cluster, published over a month."""
    count = len(made.cluster_N)
    numbers = pl.Series(np.arange(count))
    frame = pl.DataFrame(
        {
            "item_id": "item-" + numbers.cast(pl.String),
            "title": "An item of the catalogue, number " + numbers.cast(pl.String),
            "category": [f"category-{cluster % CATEGORIES}" for cluster in made.cluster_N.tolist()],
            "published_at": [START - timedelta(minutes=43_200 * (1 - row / count)) for row in range(count)],
        }
    )
    for name, dtype in CATALOGUE_COLUMNS.items():
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, dtype).alias(name))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in CATALOGUE_COLUMNS.items())


def events_of(made: MadeUp, name_of: Callable[[str], str]) -> pl.DataFrame:
    """Each user's clicks on items of three clusters, popular ones first, over ten days.

    Args:
        name_of: from a user's id to the name in the journal.
    """
    random = np.random.default_rng(SEED + 1)
    order_N = np.argsort(made.cluster_N, kind="stable")
    start_K = np.searchsorted(made.cluster_N[order_N], np.arange(len(made.centre_KE) + 1))
    size_K = np.diff(start_K)
    popular_K = size_K / size_K.sum()
    taste_U3 = random.choice(len(size_K), (USERS, 3), p=popular_K)
    cluster_UP = taste_U3[np.arange(USERS)[:, None], random.integers(0, 3, (USERS, PAST))]
    place_UP = (size_K[cluster_UP] * random.random((USERS, PAST)) ** 2).astype(np.int64)
    row_E = order_N[start_K[cluster_UP] + place_UP].ravel()
    minute_E = np.sort(random.random((USERS, PAST)) * 14_400, axis=1).ravel()
    frame = pl.DataFrame(
        {
            "event_id": [f"e{number}" for number in range(len(row_E))],
            "user_id": np.repeat([name_of(f"user-{user}") for user in range(USERS)], PAST),
            "item_id": [f"item-{row}" for row in row_E.tolist()],
            "kind": "click",
            "at": [START - timedelta(minutes=14_400 - float(minute)) for minute in minute_E],
        }
    ).with_columns(pl.col("at").alias("received_at"))
    for name, dtype in EVENT_COLUMNS.items():
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, dtype).alias(name))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in EVENT_COLUMNS.items()).sort("at", "event_id")


def write_bundle(folder: Path, settings: Settings, items: int) -> tuple[str, Lineage]:
    """The bundle in `folder`: its digest, and the lineage it was given."""
    from penstock.export.rank import rank_graphs, text_graph
    from penstock.model.ranking import RankingModel
    from penstock.model.text_encoder import TextEncoder, tokenizer_of

    spec = FeatureSpec.of(settings)
    made = make_vectors(items, settings.model.width)
    catalogue = catalogue_of(made)
    state = CausalState(spec)
    state.add_items(catalogue)
    state.observe(events_of(made, user_names(settings.data, lambda: None)))
    encoder = TextEncoder(settings.text)
    model = RankingModel(encoder.width, len(spec.kinds), len(spec.names), settings.model)
    cache = ROOT / "var" / "graphs"
    graphs = rank_graphs(model, settings, spec, encoder.width, cache)
    graphs["text.onnx"] = text_graph(encoder, model.item.projection, settings, cache)
    writer = BundleWriter(folder)
    writer.graphs(graphs, tokenizer_of(settings.text))
    writer.items(catalogue, made.vector_NE)
    writer.state(state)
    lineage = Lineage(
        "rank", f"made-{items}", "s-made", "0" * 64, None, "none", settings.sha256(), SEED, START, library_versions()
    )
    facts = {"width": settings.model.width, "text_width": encoder.width, "labels": []}
    return writer.finish(lineage, facts, spec), lineage


def make(folder: Path, items: int) -> Settings:
    """Write the bundle, register it and let it serve. Returns the settings a server needs to find it."""
    settings = make_settings(folder)
    bundle = folder / "made"
    digest, lineage = write_bundle(bundle, settings, items)
    state = open_state(settings.state.url)
    registry = open_registry(settings, state)
    gate = GateResult("made", "ndcg@10", "all", ">=", -1.0, 0.0, 0.0, 0.0, True, "made up; nothing was measured")
    report = GateReport(digest, None, "s-made", START.isoformat(), 1, 1, (gate,))
    version = registry.register(bundle, report, lineage, {})
    promote(registry, state, version.number, "benchmark", "made up", None, datetime.now(UTC))
    return settings


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=65_000)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.items)


if __name__ == "__main__":
    main()
