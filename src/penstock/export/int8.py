"""A text graph with its large weights as 8-bit integers: a quarter of the size, and quicker on a CPU.

Weights have a scale for each output column, in 7 bits: processors without VNNI add products in pairs within 16 bits,
and 255 x 127 twice does not fit there while 255 x 63 does, so every processor computes the same. What is multiplied
with them has a scale for each token, taken from that token alone: a text has the same vector whatever is encoded
beside it. What this costs and what else was tried: docs/decisions/0020.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

WEIGHT_STEPS, TOKEN_STEPS, ZERO = 63, 127, 128
LARGE = 100_000  # elements; smaller weights cost nothing worth saving
MICROSOFT = "com.microsoft"
ONNXRUNTIME_DOMAIN = helper.make_opsetid(MICROSOFT, 1)


def quantised(graph: bytes, large: int = LARGE) -> bytes:
    """The graph with matrix products and look-ups of weights of at least `large` elements in 8-bit integers."""
    model = onnx.load_from_string(graph)
    names = {value.name for value in model.graph.initializer if len(value.dims) == 2 and np.prod(value.dims) >= large}
    rewrite = _Rewrite({value.name: value for value in model.graph.initializer}, names)
    for node in model.graph.node:
        rewrite.take(node)
    del model.graph.node[:]
    model.graph.node.extend(rewrite.nodes)
    kept = [value for value in model.graph.initializer if value.name not in rewrite.replaced]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *rewrite.made.values()])
    model.opset_import.append(ONNXRUNTIME_DOMAIN)
    model.metadata_props.add(key="device", value="cpu")  # read by penstock.inference.sessions
    return bytes(model.SerializeToString())


def by_column(weight_IO: NDArray[np.float32], steps: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers within +-`steps` [I, O] and scales [O], whose product is the weight but for rounding."""
    largest_O = np.maximum(np.abs(weight_IO).max(0), np.finfo(np.float32).tiny)
    scale_O = np.asarray(largest_O / steps, np.float32)
    return np.round(weight_IO / scale_O).astype(np.int8), scale_O


class _Rewrite:
    """Nodes in their order, those of large weights replaced."""

    def __init__(self, weights: dict[str, onnx.TensorProto], large: set[str]) -> None:
        self.weights, self.large = weights, large
        self.nodes: list[NodeProto] = []
        self.made: dict[str, onnx.TensorProto] = {}
        self.replaced: set[str] = set()
        self._tokens: dict[str, tuple[str, str]] = {}
        self._count: defaultdict[str, int] = defaultdict(int)

    def take(self, node: NodeProto) -> None:
        """`node`, or what stands for it."""
        if node.op_type == "MatMul" and node.input[1] in self.large:
            self._product(node)
        elif node.op_type == "Gather" and node.input[0] in self.large:
            self._look_up(node)
        else:
            self.nodes.append(node)

    def _product(self, node: NodeProto) -> None:
        """x @ W as (integers of x @ integers of W), times the column's scale, times the token's."""
        whole, largest = self._by_token(node.input[0])
        name = node.input[1]
        if name not in self.replaced:
            integer_IO, scale_O = by_column(numpy_helper.to_array(self.weights[name]), WEIGHT_STEPS)
            self._keep(f"{name}.integer", integer_IO)
            self._keep(f"{name}.scale", scale_O)
            self._keep(f"{name}.zero", np.zeros(len(scale_O), np.int8))
            self.replaced.add(name)
        step, zero = self._keep("step", np.float32(1 / TOKEN_STEPS)), self._keep("zero", np.uint8(ZERO))
        inputs = [whole, f"{name}.integer", step, f"{name}.scale", zero, f"{name}.zero"]
        product = self._add("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
        self._add("Mul", [product, largest], node.output[0])

    def _by_token(self, x: str) -> tuple[str, str]:
        """Names of x as integers, and of the largest size in each token; made once for all products of x."""
        if x not in self._tokens:
            last = self._keep("last_axis", np.array([-1], np.int64))
            largest = self._add("ReduceMax", [self._add("Abs", [x]), last], keepdims=1)
            largest = self._add("Max", [largest, self._keep("tiny", np.finfo(np.float32).tiny)])  # a token may be zeros
            step, zero = self._keep("step", np.float32(1 / TOKEN_STEPS)), self._keep("zero", np.uint8(ZERO))
            whole = self._add("QuantizeLinear", [self._add("Div", [x, largest]), step, zero])
            self._tokens[x] = whole, largest
        return self._tokens[x]

    def _look_up(self, node: NodeProto) -> None:
        """Rows of a table as integers, times the row's scale."""
        name = node.input[0]
        if name not in self.replaced:
            integer_DV, scale_V = by_column(numpy_helper.to_array(self.weights[name]).T, TOKEN_STEPS)
            self._keep(f"{name}.integer", integer_DV.T)
            self._keep(f"{name}.scale", scale_V[:, None])
            self.replaced.add(name)
        row = self._add("Gather", [f"{name}.integer", node.input[1]])
        scale = self._add("Gather", [f"{name}.scale", node.input[1]])
        self._add("Mul", [self._add("Cast", [row], to=onnx.TensorProto.FLOAT), scale], node.output[0])

    def _add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        self._count[op] += 1
        name = f"int8.{op}.{self._count[op]}"
        self.nodes.append(helper.make_node(op, inputs, [output or name], name=name, **attributes))
        return output or name

    def _keep(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        if name not in self.made:
            self.made[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name
