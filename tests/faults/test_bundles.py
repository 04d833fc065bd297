"""Bundles that were cut short, altered or made by somebody else are refused, and the old model serves on."""

import json
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from fault_trials import Trials
from fault_world import World
from onnx import TensorProto, helper

from penstock.errors import BundleError, PenstockError
from penstock.inference.bundle import MANIFEST, load_bundle, write_manifest
from penstock.inference.scorer import Scorer
from penstock.pipeline.ledger import opened
from penstock.registry.store import open_registry


@pytest.fixture
def bundle(world: World, tmp_path: Path) -> Path:
    """A copy of the champion's bundle."""
    pointer = open_registry(world.settings, opened(world.settings)).champion_pointer()
    assert pointer is not None
    return Path(shutil.copytree(pointer.bundle_dir, tmp_path / "bundle"))


def truncate(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: source.randrange(path.stat().st_size)])


def flip(path: Path, source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


def test_a_damaged_bundle_is_refused(bundle: Path, trials: Trials, figures: dict[str, dict[str, object]]) -> None:
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    source, count, came = random.Random(1), trials(60, 1_000), Counter[str]()
    for trial in range(count):
        path, how = source.choice(files), (truncate, flip)[trial % 2]
        whole = path.read_bytes()
        how(path, source)
        try:
            loaded = load_bundle(bundle)
        except BundleError:
            came[f"{how.__name__}: refused"] += 1
        else:  # white space or an unread field of the manifest itself
            assert path.name == MANIFEST
            assert loaded.digest == json.loads(whole)["digest"]
            came[f"{how.__name__}: the same bundle by digest"] += 1
        path.write_bytes(whole)
    load_bundle(bundle)
    figures["damaged bundles"] = {"tried": count, "loaded with other contents": 0, **came}


def external_data(bundle: Path) -> None:
    """A graph whose weights lie in a file outside."""
    model = onnx.load(bundle / "rank.onnx")
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../outside.bin"), ("offset", "0"), ("length", "64")):
        entry = first.external_data.add()
        entry.key, entry.value = key, value
    (bundle.parent.parent / "outside.bin").write_bytes(bytes(4096))
    (bundle / "rank.onnx").write_bytes(model.SerializeToString())


def not_finite(bundle: Path) -> None:
    """A graph that answers NaN."""
    model = onnx.load(bundle / "rank.onnx")
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "before"
    nan = helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")])
    model.graph.initializer.append(nan)
    model.graph.node.append(helper.make_node("Add", ["before", "nan"], [output]))
    (bundle / "rank.onnx").write_bytes(model.SerializeToString())


def a_pickle(bundle: Path) -> None:
    (bundle / "weights.pkl").write_bytes(pickle.dumps({"w": 1}))


def a_pickle_by_another_name(bundle: Path) -> None:
    (bundle / "vectors.safetensors").write_bytes(pickle.dumps({"w": 1}))


def no_graph(bundle: Path) -> None:
    (bundle / "user.onnx").write_bytes(b"not a graph")


@pytest.mark.parametrize("spoil", [external_data, a_pickle, a_pickle_by_another_name, no_graph])
def test_a_bundle_that_somebody_else_made_is_refused_even_with_a_manifest_that_fits(
    bundle: Path, spoil: Callable[[Path], None]
) -> None:
    facts = json.loads((bundle / MANIFEST).read_text())
    spoil(bundle)
    write_manifest(bundle, {key: value for key, value in facts.items() if key not in ("schema", "digest", "files")})
    with pytest.raises(PenstockError):
        Scorer.load(bundle)
