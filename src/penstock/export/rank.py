"""A ranking model or classifier as graphs in memory, and how far they are from torch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.export.graphs import template
from penstock.export.int8 import quantised
from penstock.export.modules import classify_spec, rank_specs, text_spec
from penstock.features.examples import Examples
from penstock.features.state import FeatureSpec
from penstock.model.classifier import Classifier
from penstock.model.ranking import RankingModel
from penstock.model.text_encoder import TextEncoder
from penstock.settings import Settings


def _weights(module: nn.Module, prefix: str) -> dict[str, NDArray[np.float32]]:
    return {f"{prefix}{name}": value.detach().float().cpu().numpy() for name, value in module.named_parameters()}


def merged_encoder(encoder: TextEncoder) -> dict[str, NDArray[np.float32]]:
    """The encoder's weights, LoRA merged in, and those of other adapters, under the names of `TextGraph`."""
    out: dict[str, NDArray[np.float32]] = {}
    with torch.no_grad():
        for name, module in encoder.bert.named_modules():
            if hasattr(module, "get_delta_weight"):  # an adapted layer comes before the layer it wraps
                merged = module.base_layer.weight + module.get_delta_weight("default")
                out[f"bert.{name}.weight"] = merged.float().cpu().numpy()
            for leaf, value in module.named_parameters(recurse=False):
                path = f"{name}.{leaf}"
                if "lora_" in path:
                    continue
                out.setdefault(f"bert.{path.replace('.base_layer', '')}", value.float().cpu().numpy())
        if encoder.side is not None:
            out |= _weights(encoder.side, "side.")
    return out


def rank_graphs(
    model: RankingModel, settings: Settings, spec: FeatureSpec, text_width: int, cache: Path
) -> dict[str, bytes]:
    """user.onnx and rank.onnx with the model's weights."""
    user, rank = (template(part, cache) for part in rank_specs(settings, spec, text_width))
    return {
        "user.onnx": user.patched(_weights(model.user, "tower.")),
        "rank.onnx": rank.patched(_weights(model.rank, "head.")),
    }


def text_graph(encoder: TextEncoder, projection: Tensor | None, settings: Settings, cache: Path) -> bytes:
    """text.onnx with LoRA merged, the item projection where there is one, in the precision of the settings."""
    weights = merged_encoder(encoder)
    if projection is not None:
        weights["projection"] = projection.detach().float().cpu().numpy()
    width = None if projection is None else projection.shape[1]
    graph = template(text_spec(settings, width), cache).patched(weights)
    return quantised(graph) if settings.export.text_precision == "int8" else graph


def classify_graph(network: Classifier, settings: Settings, text_width: int, cache: Path) -> bytes:
    """classify.onnx with the classifier's weights."""
    spec = classify_spec(settings, text_width, network.weight.shape[1])
    return template(spec, cache).patched(_weights(network, ""))


def item_vectors(model: RankingModel, text_NT: Tensor) -> NDArray[np.float32]:
    """Item vectors [N, E]: projection of the text plus the item's residual."""
    return np.asarray(projected(model, text_NT) + model.residual.detach().float().cpu().numpy())


def projected(model: RankingModel, text_BT: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """What the text alone makes of an item's vector [B, E]."""
    with torch.no_grad():
        item_BE = model.item(torch.as_tensor(text_BT).to(model.residual.device))
    return np.asarray(item_BE.float().cpu().numpy())


def torch_scores(model: RankingModel, vector_NE: NDArray[np.float32], batch: Examples) -> NDArray[np.float32]:
    """Scores [R, C] by torch in float32 on the CPU, for the parity check; -inf where padded."""
    device = model.residual.device
    vectors = torch.from_numpy(vector_NE).to(device)
    with torch.no_grad():
        past = vectors[torch.from_numpy(batch.past_row_RL).to(device)]
        kind, age, mask, feature = (
            torch.from_numpy(value).to(device)
            for value in (batch.past_kind_RL, batch.past_age_RL, batch.past_mask_RL, batch.feature_RCF)
        )
        asked = torch.zeros(len(batch), model.user.asked.shape[0], device=device)
        user = model.user(past, kind, age, mask, asked)
        candidate = vectors[torch.from_numpy(batch.row_RC).to(device)]
        score = model.rank(user, past, age, mask, candidate, feature).float().cpu().numpy()
    score[~batch.mask_RC] = -np.inf
    return np.asarray(score)
