"""The int8 rewrite: against the float graph on the real encoder, and by hand on one product."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from core_bench import small_settings
from onnx import TensorProto, helper, numpy_helper

from penstock.export.int8 import by_column, quantised
from penstock.export.rank import text_graph
from penstock.inference.engine import TextEngine
from penstock.inference.sessions import Session
from penstock.model.text_encoder import TextEncoder, tokenizer_of

TEXTS = [
    "wool", "a red wool scarf with a very long fringe for the windy days of march", "a blue hat", "scarf and hat",
    "walnut chess set, hand carved", "late train to the coast",
]  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, graph_cache: Path) -> tuple[TextEngine, TextEngine, int, int]:
    """The real encoder in float32 and in int8, and the sizes of both in bytes."""
    home = tmp_path_factory.mktemp("int8")
    made = []
    for precision in ("float32", "int8"):
        settings = small_settings(home, **{"export.text_precision": precision})
        torch.manual_seed(0)
        encoder = TextEncoder(settings.text)
        made.append(text_graph(encoder, torch.randn(encoder.width, settings.model.width), settings, graph_cache))
    tokenizer = tokenizer_of(settings.text).to_str()
    plain, small = (TextEngine(graph, tokenizer) for graph in made)
    return plain, small, len(made[0]), len(made[1])


def test_the_vectors_stay_and_the_graph_is_a_third(engines: tuple[TextEngine, TextEngine, int, int]) -> None:
    plain, small, plain_bytes, small_bytes = engines
    cosine_B = (plain.encode(TEXTS)[0] * small.encode(TEXTS)[0]).sum(1)
    assert cosine_B.min() > 0.99
    assert small_bytes < plain_bytes / 3


def test_a_text_has_one_vector_whatever_is_encoded_beside_it(
    engines: tuple[TextEngine, TextEngine, int, int],
) -> None:
    small = engines[1]
    alone = np.concatenate([small.encode([text])[0] for text in TEXTS])
    np.testing.assert_allclose(small.encode(TEXTS)[0], alone, atol=1e-5)


def product_graph(weight_IO: np.ndarray) -> bytes:
    """x [B, I] @ weight."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", weight_IO.shape[0]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", weight_IO.shape[1]])]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(weight_IO, "w")])
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def test_the_largest_of_a_column_and_of_a_token_are_kept_exactly() -> None:
    weight_IO = np.array([[6.3, 0.01], [-0.1, 0.0]], np.float32)
    integer_IO, scale_O = by_column(weight_IO, 63)
    assert integer_IO.tolist() == [[63, 63], [-1, 0]]
    np.testing.assert_allclose(scale_O, [0.1, 0.01 / 63], rtol=1e-6)
    session = Session(quantised(product_graph(weight_IO), large=4))
    x_BI = np.array([[2.0, 0.0], [0.0, -1000.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(session.run(x=x_BI)[0], [[12.6, 0.02], [100.0, 0.0], [0.0, 0.0]], rtol=1e-5)


def test_the_largest_integers_do_not_saturate() -> None:
    """255 x 63 twice is the most that a processor without VNNI adds up within 16 bits."""
    weight_IO, x_BI = np.full((64, 8), 2.0, np.float32), np.full((3, 64), 5.0, np.float32)
    session = Session(quantised(product_graph(weight_IO), large=1))
    np.testing.assert_allclose(session.run(x=x_BI)[0], x_BI @ weight_IO, rtol=1e-5)


def test_rows_of_a_table_are_looked_up_as_integers() -> None:
    table_VD = np.array([[1.0, -0.5], [0.0, 0.0], [300.0, 3.0]], np.float32)
    node = helper.make_node("Gather", ["table", "row"], ["y"])
    inputs = [helper.make_tensor_value_info("row", TensorProto.INT64, ["b", "t"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "t", 2])]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(table_VD, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made = quantised(model.SerializeToString(), large=6)
    found = Session(made).run(row=np.array([[2, 0], [1, 2]]))[0]
    np.testing.assert_allclose(found, table_VD[np.array([[2, 0], [1, 2]])], atol=300 / 127 / 2)
    assert "table" not in {value.name for value in onnx.load_from_string(made).graph.initializer}


@pytest.mark.parametrize(("device", "expected"), [("auto", "CPUExecutionProvider"), ("cuda", "CUDAExecutionProvider")])
def test_on_a_machine_with_a_gpu_it_runs_on_the_processor_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: str
) -> None:
    asked: list[list[str]] = []

    class Recorded(onnxruntime.InferenceSession):
        def __init__(self, graph: bytes, options: onnxruntime.SessionOptions, providers: list[str]) -> None:
            asked.append(providers)
            super().__init__(graph, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return asked[-1]

    monkeypatch.setattr("penstock.inference.sessions.gpu_present", lambda: True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorded)
    plain = product_graph(np.ones((2, 2), np.float32))
    assert Session(plain, device).provider == "CUDAExecutionProvider"
    assert Session(quantised(plain, large=4), device).provider == expected


def test_small_weights_stay_as_they_are() -> None:
    weight_IO = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    kept = onnx.load_from_string(quantised(product_graph(weight_IO), large=13))
    assert [node.op_type for node in kept.graph.node] == ["MatMul"]
    np.testing.assert_array_equal(numpy_helper.to_array(kept.graph.initializer[0]), weight_IO)
