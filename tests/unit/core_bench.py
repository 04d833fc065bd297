"""What the tests of learning share: small settings, a tiny encoder, and logs made by hand or drawn from a seed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from penstock.data.dataset import Dataset, write_dataset
from penstock.data.journal import Journal
from penstock.features.examples import Examples, Sampler, build_examples
from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.ledger import opened
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
START = datetime(2026, 3, 2, tzinfo=UTC)
START_S = START.timestamp()

SMALL: dict[str, Any] = {
    "features.history_length": 5,
    "model.width": 8,
    "model.attention_width": 4,
    "model.cross_layers": 1,
    "model.hidden": 8,
    "text.tuned_layers": 1,
    "text.lora_rank": 2,
    "text.adapter_rank": 4,
    "text.max_tokens": 24,
    "training.batch_requests": 16,
    "training.negatives": 6,
    "training.replay_capacity": 40,
    "training.warmup_epochs": 1,
    "training.text_items_per_step": 16,
}


def small_settings(root: Path, encoder: str = "minilm", **changes: Any) -> Settings:
    """params.yaml with small networks, and everything that is written placed under `root`."""
    places = {
        "state.home": str(root / "var"),
        "state.url": f"sqlite:///{root}/state.db",
        "data.user_key_file": str(root / "keys" / "users.json"),
        "data.dir": str(root / "data"),
        "registry.tracking_uri": f"sqlite:///{root}/mlflow.db",
        "registry.artifacts": str(root / "artifacts"),
        "text.encoder": encoder,
    }
    return load_settings(ROOT / "params.yaml", {}).override({**places, **SMALL, **changes})


def make_tiny_encoder(folder: Path) -> Path:
    """A BERT of two layers and 16 columns with random weights, beside MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from penstock.model.text_encoder import encoder_folder

    torch.manual_seed(3)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder_folder("minilm")).save_pretrained(folder)
    return folder


def event(
    number: int, hours: float, user: str = "u1", item: str = "i1", kind: str = "click", **more: Any
) -> dict[str, Any]:
    """One event, `hours` after START, received at once."""
    at = START + timedelta(hours=hours)
    return {
        "event_id": f"e{number:05}", "user_id": user, "item_id": item, "kind": kind, "at": at, "received_at": at,
    } | more  # fmt: skip


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as records.EVENT_COLUMNS."""
    return pl.DataFrame(rows, schema=EVENT_COLUMNS)


def catalogue(count: int, categories: int = 3) -> pl.DataFrame:
    """Items i0, i1, … with texts of different lengths; every fourth has no known birth."""
    words = [
        "red",
        "wool",
        "scarf",
        "with",
        "a",
        "long",
        "fringe",
        "for",
        "the",
        "cold",
        "and",
        "windy",
        "days",
        "of",
        "march",
    ]
    rows = [
        {
            "item_id": f"i{n}",
            "title": " ".join(words[n % 5 : n % 5 + 1 + n % 7]) + f" {n}",
            "category": f"c{n % categories}",
            "published_at": None if n % 4 == 0 else START - timedelta(hours=n),
        }
        for n in range(count)
    ]
    return pl.DataFrame(rows, schema=CATALOGUE_COLUMNS)


def random_events(seed: int, count: int = 300, items: int = 12, users: int = 6, hours: float = 48.0) -> pl.DataFrame:
    """Clicks, purchases, ratings and impressions in time order, some at the same moment."""
    random = np.random.default_rng(seed)
    minutes = np.sort(random.integers(1, int(hours * 60), size=count))
    kinds = random.choice(["impression", "click", "purchase", "rating"], size=count, p=[0.4, 0.4, 0.1, 0.1])
    rows = []
    for n in range(count):
        value = float(random.integers(1, 6)) if kinds[n] == "rating" else None
        user, item = f"u{random.integers(users)}", f"i{random.integers(items)}"
        rows.append(event(n, minutes[n] / 60, user, item, str(kinds[n]), value=value))
    return table(rows).sort("at", "event_id")


def positive_requests(events: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One request for each positive of events that have no request ids."""
    from penstock.data.requests import group_requests

    return group_requests(events, settings.data.gains, settings.data.positive_rating_min)


def learned_examples(settings: Settings, seed: int = 1, items: int = 12) -> tuple[CausalState, Examples]:
    """A state over random events, and the examples built on the way."""
    state = CausalState(FeatureSpec.of(settings))
    state.add_items(catalogue(items))
    events = random_events(seed, items=items)
    sampler = Sampler(settings.training.negatives, 0.5, seed)
    return state, build_examples(state, events, positive_requests(events, settings), "event", sampler)


@dataclass
class Shop:
    """A simulated marketplace whose log arrives in parts."""

    settings: Settings
    dataset: Dataset
    edges: list[datetime]

    def part(self, index: int) -> pl.DataFrame:
        """The events between two edges."""
        return self.dataset.events.filter((pl.col("at") >= self.edges[index]) & (pl.col("at") < self.edges[index + 1]))

    def arrive(self, index: int) -> datetime:
        """Put one part into the journal; returns a time at which its window is over."""
        now = self.edges[index + 1] + timedelta(minutes=10)
        rows = self.part(index).with_columns(received_at=pl.col("at"))
        accepted = Journal(opened(self.settings), self.settings.data).append(rows, now)
        assert accepted.rejected == []
        return now


def open_shop(root: Path, encoder: str, parts: int, **changes: Any) -> Shop:
    """A shop of 40 items and about 170 requests, its catalogue written to `data.dir`, its journal empty.

    Its pseudonyms are the same every time: a bootstrap draws users in the order of their names.
    """
    from penstock.data.simulate import simulate

    small = {
        "simulate.items": 40, "simulate.users": 25, "simulate.days": 1, "simulate.requests_per_day": 260,
        "simulate.shown": 8, "simulate.item_life_h": 60, "validation.min_history": 20, "gates.min_requests": 5,
        "gates.ndcg_margin": 1.0, "gates.auc_margin": 1.0, "gates.log_loss_margin": 10.0,
        "gates.slice_margin": 1.0, "gates.forgetting_margin": 1.0, "gates.max_calibration_loss": 50.0,
        "gates.min_coverage_ratio": 0.0, "gates.min_diversity_ratio": 0.0, "gates.max_latency_ms": 5000.0,
        "gates.bootstrap_resamples": 100, "promotion.policy": "automatic",
    }  # fmt: skip
    settings = small_settings(root, encoder, **{**small, **changes})
    key = settings.data.user_key_file
    key.parent.mkdir(parents=True)
    key.touch(0o600)
    key.write_text(json.dumps({"keys": [{"key": "7" * 64}]}))
    dataset, _ = simulate(settings.simulate, 5)
    write_dataset(Dataset(dataset.events[:9], dataset.catalogue, dataset.meta), settings.data.dir)
    at = dataset.events["at"]
    first, last = at.min(), at.max() + timedelta(seconds=1)  # type: ignore[operator]
    edges = [first + (last - first) * n / parts for n in range(parts + 1)]
    return Shop(settings, dataset, edges)
