"""The item vectors as a graph in whole numbers, by which the service finds the nearest: see inference.index.

E width of a vector, N items.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 9
MIDDLE, REACH = 128, 127
"""A byte stands for -127 to 127 steps around 128. Unsigned: what multiplies signed by unsigned bytes saturates on
processors without VNNI."""


def nearest_graph(vector_NE: NDArray[np.float32]) -> bytes:
    """A graph from a query, float32 [1, E], to int32 [1, N]: the dot products, but for rounding and one factor.

    Each column of the vectors has a step of its own, with which the query is multiplied, so that all products of a
    query share one factor; the query's own step is chosen as it comes.
    """
    step_E = (np.abs(vector_NE).max(0, initial=0.0) / REACH).astype(np.float32)
    whole_NE = np.rint(vector_NE / np.where(step_E > 0, step_E, np.float32(1.0)))
    byte_EN = np.ascontiguousarray((np.clip(whole_NE, -REACH, REACH) + MIDDLE).astype(np.uint8).T)
    constants = {"step": step_E, "middle": np.array(MIDDLE, np.uint8), "items": byte_EN}
    nodes = [
        helper.make_node("Mul", ["query", "step"], ["scaled"]),
        helper.make_node("DynamicQuantizeLinear", ["scaled"], ["asked", "asked_step", "asked_zero"]),
        helper.make_node("MatMulInteger", ["asked", "items", "asked_zero", "middle"], ["score"]),
    ]
    width, count = byte_EN.shape
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("score", TensorProto.INT32, [1, count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
