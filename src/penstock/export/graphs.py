"""Torch modules to ONNX graphs: exported once per architecture, weights patched in afterwards.

The template is exported with random weights, so that every initializer of the graph can be recognised, by value, as
one parameter or its transpose. A round then replaces the values, which takes milliseconds instead of seconds.
torch's tracing exporter makes the same graph as the one on torch.export in a tenth of its time: docs/decisions/0005.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from penstock.errors import ExportError


@dataclass(frozen=True)
class Template:
    """A graph, and for each weight that is patched: initializer -> (parameter, transposed)."""

    model: onnx.ModelProto
    source: dict[str, tuple[str, bool]]

    def patched(self, weights: Mapping[str, NDArray[np.float32]]) -> bytes:
        """The graph with these weights, serialised.

        Raises:
            ExportError: a weight is missing, has another shape, or is not finite.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for initializer in model.graph.initializer:
            if initializer.name not in self.source:
                continue
            name, transposed = self.source[initializer.name]
            value = weights.get(name)
            if value is None:
                raise ExportError(f"no weight {name} for the exported graph; the architecture has changed")
            value = np.ascontiguousarray(value.T if transposed else value, np.float32)
            if list(value.shape) != list(initializer.dims):
                raise ExportError(f"weight {name}: shape {value.shape}, the graph expects {list(initializer.dims)}")
            if not np.isfinite(value).all():
                raise ExportError(f"weight {name} holds a value that is not finite")
            initializer.CopyFrom(numpy_helper.from_array(value, initializer.name))
        return bytes(model.SerializeToString())


@dataclass(frozen=True)
class GraphSpec:
    """How to export one module. `architecture`: whatever decides the graph's shape, part of the cache key."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    dynamic: Mapping[str, Mapping[int, str]]
    architecture: Mapping[str, Any]
    opset: int

    def key(self) -> str:
        """Cache key: name and digest of the architecture and the libraries."""
        tree = {
            **self.architecture,
            "opset": self.opset,
            "exporter": "trace",
            "torch": torch.__version__,
            "onnx": onnx.__version__,
        }
        return f"{self.name}-{hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]}"


_LOADED: dict[str, Template] = {}


def template(spec: GraphSpec, cache: Path) -> Template:
    """The template of `spec`, from memory, from the `cache` folder, or exported now."""
    key = spec.key()
    if key in _LOADED:
        return _LOADED[key]
    graph_file, source_file = cache / f"{key}.onnx", cache / f"{key}.json"
    if graph_file.exists() and source_file.exists():
        source = {name: (row[0], bool(row[1])) for name, row in json.loads(source_file.read_text()).items()}
        _LOADED[key] = Template(onnx.load(graph_file), source)
        return _LOADED[key]
    made = _export(spec)
    cache.mkdir(parents=True, exist_ok=True)
    for path, data in (
        (graph_file, made.model.SerializeToString()),
        (source_file, json.dumps(made.source).encode()),
    ):
        part = path.with_suffix(path.suffix + ".part")
        part.write_bytes(data)
        part.replace(path)
    _LOADED[key] = made
    return made


def _export(spec: GraphSpec) -> Template:
    module = spec.build().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    batch = next(iter(spec.dynamic.values()))[0]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # Tracing warns that it is the older exporter and that shapes become constants; parity is checked instead.
        warnings.simplefilter("ignore")
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            (),
            file,
            kwargs=dict(spec.inputs),
            dynamo=False,
            opset_version=spec.opset,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_axes={
                **{name: dict(axes) for name, axes in spec.dynamic.items()},
                **{name: {0: batch} for name in spec.outputs},
            },
        )
        model = onnx.load(file)
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    source: dict[str, tuple[str, bool]] = {}
    values = {name: value.detach().numpy() for name, value in module.named_parameters()}
    found: set[str] = set()
    for initializer in model.graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.dtype != np.float32:
            continue
        for name, weight in values.items():
            if value.shape == weight.shape and np.array_equal(value, weight):
                source[initializer.name] = (name, False)
            elif value.ndim == 2 and value.shape == weight.T.shape and np.array_equal(value, weight.T):
                source[initializer.name] = (name, True)
            else:
                continue
            found.add(name)
            break
    lost = set(values) - found
    if lost:
        raise ExportError(f"{spec.name}: the exporter folded the weights {sorted(lost)} away; they cannot be patched")
    return Template(model, source)
