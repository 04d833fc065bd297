"""A learner written as a bundle."""

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from penstock.export.index import nearest_graph
from penstock.features.state import CausalState, FeatureSpec
from penstock.inference.bundle import ROUNDED, write_manifest
from penstock.inference.index import ROUNDED_FROM
from penstock.records import Lineage

ITEM_COLUMNS = ("item_id", "title", "category", "published_at", "attributes")
LIBRARIES = ("penstock", "torch", "transformers", "peft", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "polars")


def library_versions() -> dict[str, str]:
    """Versions of what made the bundle."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class BundleWriter:
    """Files first, manifest last; the folder gets its name when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.part = folder, folder.with_name(f".{folder.name}.part")
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)

    def graphs(self, graphs: dict[str, bytes], tokenizer: Tokenizer) -> None:
        """ONNX files and the tokenizer."""
        for name, data in graphs.items():
            (self.part / name).write_bytes(data)
        (self.part / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")

    def items(self, catalogue: pl.DataFrame, vector_NE: NDArray[np.float32] | None) -> None:
        """The catalogue in the order of the vectors."""
        catalogue.select(ITEM_COLUMNS).write_parquet(self.part / "items.parquet")
        if vector_NE is not None:
            save_file({"vector": np.ascontiguousarray(vector_NE)}, self.part / "vectors.safetensors")
            if len(vector_NE) >= ROUNDED_FROM:
                (self.part / ROUNDED).write_bytes(nearest_graph(vector_NE))

    def state(self, state: CausalState) -> None:
        """Counters and histories."""
        state.save(self.part / "state")

    def finish(
        self, lineage: Lineage, model: dict[str, Any], spec: FeatureSpec, rows: dict[str, Any] | None = None
    ) -> str:
        """Write the manifest and put the folder in its place. `rows`: what was seen of the data. Returns the digest."""
        tree = json.loads(json.dumps(asdict(lineage), default=datetime.isoformat))
        facts = {
            "task": lineage.task,
            "model": {**model, "features": list(spec.names), "kinds": list(spec.kinds)},
            "feature_spec": spec.to_json(),
            "lineage": tree,
            "rows": rows,
            "created_at": datetime.now(UTC).isoformat(),
        }
        digest = write_manifest(self.part, json.loads(json.dumps(facts)))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.part.rename(self.folder)
        return digest
