"""Patched graphs against torch: rank and user on a small model, text on the real encoder with tuned layers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from core_bench import learned_examples, small_settings

from penstock.errors import ExportError
from penstock.export.graphs import Template, template
from penstock.export.modules import rank_specs, text_spec
from penstock.export.rank import item_vectors, merged_encoder, rank_graphs, text_graph, torch_scores
from penstock.features.state import FeatureSpec
from penstock.inference.engine import RankEngine, TextEngine
from penstock.model.ranking import RankingModel
from penstock.model.text_encoder import TextEncoder, tokenizer_of
from penstock.settings import Settings

WIDTH = 16
TEXTS = ["wool", "a red wool scarf with a very long fringe for the windy days of march", "a blue hat", "scarf and hat"]


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


def model_of(small: Settings, seed: int) -> RankingModel:
    spec = FeatureSpec.of(small)
    torch.manual_seed(seed)
    model = RankingModel(WIDTH, len(spec.kinds), len(spec.names), small.model).eval()
    model.grow(12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.rank.deviation.abs_().add_(0.5)
    return model


@pytest.mark.parametrize("seed", [1, 2])
def test_rank_and_user_graphs_equal_torch(small: Settings, graph_cache: Path, seed: int) -> None:
    model, spec = model_of(small, seed), FeatureSpec.of(small)
    vector_NE = item_vectors(model, torch.randn(12, WIDTH))
    graphs = rank_graphs(model, small, spec, WIDTH, graph_cache)
    engine = RankEngine(graphs["user.onnx"], graphs["rank.onnx"], vector_NE, WIDTH)
    _, examples = learned_examples(small)
    for batch in (examples.take(slice(0, 1)), examples):
        expected = torch_scores(model, vector_NE, batch)
        np.testing.assert_allclose(engine.scores(batch), expected, rtol=1e-4, atol=1e-4)
    assert np.isneginf(engine.scores(examples)[~examples.mask_RC]).all()
    with torch.no_grad():
        past = [
            torch.from_numpy(value) for value in (examples.past_kind_RL, examples.past_age_RL, examples.past_mask_RL)
        ]
        asked = torch.randn(len(examples), WIDTH)
        expected_user = model.user(torch.from_numpy(vector_NE[examples.past_row_RL]), *past, asked)
    user = engine.user_vectors(
        examples.past_row_RL, examples.past_kind_RL, examples.past_age_RL, examples.past_mask_RL, asked.numpy()
    )
    np.testing.assert_allclose(user, expected_user, rtol=1e-4, atol=1e-4)


def test_a_template_is_exported_once_and_then_read_from_its_folder(
    small: Settings, graph_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = rank_specs(small, FeatureSpec.of(small), WIDTH)[1]
    made = template(spec, graph_cache)
    monkeypatch.setattr("penstock.export.graphs._LOADED", {})
    monkeypatch.setattr("penstock.export.graphs._export", lambda _: made)
    assert template(spec, tmp_path) is made
    monkeypatch.setattr("penstock.export.graphs._LOADED", {})
    monkeypatch.setattr("penstock.export.graphs._export", lambda _: pytest.fail("exported again"))
    read = template(spec, tmp_path)
    assert read.source == made.source
    assert read.model == made.model


def tiny_template() -> Template:
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2, 3], [0.0] * 6)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])]
    graph = onnx.helper.make_graph([node], "g", inputs, outputs, [weight])
    return Template(onnx.helper.make_model(graph), {"w": ("weight", True)})


def test_a_patched_weight_may_be_transposed() -> None:
    made = onnx.load_from_string(tiny_template().patched({"weight": np.arange(6, dtype=np.float32).reshape(3, 2)}))
    value = onnx.numpy_helper.to_array(made.graph.initializer[0])
    assert value.tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no weight weight"),
        ({"weight": np.zeros((2, 3), np.float32)}, "shape"),
        ({"weight": np.full((3, 2), np.nan, np.float32)}, "not finite"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused(weights: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        tiny_template().patched(weights)


def test_token_and_mask_are_two_tensors_for_the_exporter(small: Settings) -> None:
    """Given one object twice, it makes them one input, and every padded token then counts."""
    inputs = text_spec(small, None).inputs
    assert inputs["token"] is not inputs["mask"]
    assert inputs["token"].data_ptr() != inputs["mask"].data_ptr()


def shaken(settings: Settings, scale: float) -> TextEncoder:
    """An encoder whose tuned weights have all moved."""
    torch.manual_seed(0)
    encoder = TextEncoder(settings.text)
    with torch.no_grad():
        for parameter in encoder.tuned_parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return encoder


def check_text_graph(encoder: TextEncoder, settings: Settings, cache: Path) -> None:
    """Texts padded together in the graph against each alone in torch."""
    projection = torch.randn(encoder.width, settings.model.width)
    tokenizer = tokenizer_of(settings.text)
    engine = TextEngine(text_graph(encoder, projection, settings, cache), tokenizer.to_str())
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    assert len({len(row) for row in tokens}) > 2, "the mask must matter"
    with torch.no_grad():
        expected = torch.cat([encoder(torch.tensor([row])) for row in tokens])
    text, item = engine.encode(TEXTS)
    np.testing.assert_allclose(text, expected, atol=2e-5)
    np.testing.assert_allclose(item, expected @ projection * projection.shape[1] ** 0.5, atol=2e-3)
    alone = np.concatenate([engine.encode([one])[0] for one in TEXTS])
    np.testing.assert_allclose(text, alone, atol=2e-5)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, TextEncoder]:
    """The real encoder with two tuned layers whose adapters are not zero."""
    changes = {"text.tuned_layers": 2, "export.text_precision": "float32"}
    settings = small_settings(tmp_path_factory.mktemp("tuned"), **changes)
    return settings, shaken(settings, 0.1)


def test_the_text_graph_equals_torch_whatever_the_lengths(
    tuned: tuple[Settings, TextEncoder], graph_cache: Path
) -> None:
    settings, encoder = tuned
    check_text_graph(encoder, settings, graph_cache)


@pytest.mark.parametrize("method", ["frozen", "side_adapter", "lora", "bottleneck", "top_layers", "full"])
def test_every_tuning_method_reaches_the_graph(
    tmp_path: Path, tiny_encoder: str, graph_cache: Path, method: str
) -> None:
    settings = small_settings(tmp_path, tiny_encoder, **{"text.tuning": method, "export.text_precision": "float32"})
    check_text_graph(shaken(settings, 0.05), settings, graph_cache)


def test_adapters_are_merged_into_the_graph(tuned: tuple[Settings, TextEncoder]) -> None:
    _, encoder = tuned
    weights = merged_encoder(encoder)
    assert not any("lora" in name for name in weights)
    base = dict(encoder.bert.named_parameters())
    top, bottom = "encoder.layer.5.attention.self.query", "encoder.layer.0.attention.self.query"
    assert np.abs(weights[f"bert.{top}.weight"] - base[f"{top}.base_layer.weight"].detach().numpy()).max() > 1e-3
    np.testing.assert_array_equal(weights[f"bert.{bottom}.weight"], base[f"{bottom}.weight"].detach().numpy())
