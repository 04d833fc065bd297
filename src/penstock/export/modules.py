"""The modules that become graphs, one per ONNX file of a bundle."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from penstock.export.graphs import GraphSpec
from penstock.features.state import FeatureSpec
from penstock.model.classifier import LOGIT_SCALE
from penstock.model.ranking import RankingHead, UserTower
from penstock.model.text_encoder import encoder_folder
from penstock.model.tuning import attach
from penstock.settings import Settings


class TextGraph(nn.Module):
    """Padded tokens to a text vector, and to an item vector where there is a projection."""

    def __init__(self, bert: Any, side: nn.Module | None, projection: Tensor | None) -> None:
        super().__init__()
        self.bert, self.side = bert, side
        self.projection = None if projection is None else nn.Parameter(projection)

    def forward(self, token: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """text [B, T] of unit norm, and item [B, E]."""
        hidden_BTD = self.bert.embeddings(input_ids=token)
        bias = ((1.0 - mask.to(hidden_BTD.dtype)) * -1e9)[:, None, None, :]
        weight_BT1 = mask.to(hidden_BTD.dtype).unsqueeze(-1)
        weight_BT1 = weight_BT1 / weight_BT1.sum(1, keepdim=True).clamp(min=1.0)
        means_BD = [(hidden_BTD * weight_BT1).sum(1)]
        for layer in self.bert.encoder.layer:
            hidden_BTD = layer(hidden_BTD, bias)
            means_BD.append((hidden_BTD * weight_BT1).sum(1))
        mean_BD = means_BD[-1]
        if self.side is not None:
            mean_BD = mean_BD + self.side(torch.stack(means_BD, 1))
        text_BT = nn.functional.normalize(mean_BD, dim=-1)
        if self.projection is None:
            return (text_BT,)
        return text_BT, text_BT @ self.projection * math.sqrt(self.projection.shape[1])


class UserGraph(nn.Module):
    """The user tower with named inputs."""

    def __init__(self, tower: UserTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, past: Tensor, kind: Tensor, age: Tensor, past_mask: Tensor, asked: Tensor) -> Tensor:
        """user [B, E]."""
        user: Tensor = self.tower(past, kind, age, past_mask, asked)
        return user


class RankGraph(nn.Module):
    """The ranking head with named inputs."""

    def __init__(self, head: RankingHead) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, user: Tensor, past: Tensor, age: Tensor, past_mask: Tensor, candidate: Tensor, feature: Tensor
    ) -> Tensor:
        """score [B, C]."""
        score: Tensor = self.head(user, past, age, past_mask, candidate, feature)
        return score


class ClassifyGraph(nn.Module):
    """Text vectors to label probabilities."""

    def __init__(self, text_width: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(text_width, labels))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, text: Tensor) -> Tensor:
        """probability [B, K]."""
        return torch.softmax(LOGIT_SCALE * (text @ self.weight) + self.bias, -1)


def text_spec(settings: Settings, width: int | None) -> GraphSpec:
    """The encoder; `width` of the item vector, None for a classifier."""

    text = settings.text
    # What cannot be merged into the encoder's own weights is part of the graph.
    adapters: dict[str, Any] | None = None
    if text.tuning == "side_adapter":
        adapters = {"side_adapter": text.adapter_rank}
    elif text.tuning == "bottleneck":
        adapters = {"bottleneck": text.adapter_rank, "layers": text.tuned_layers}

    def build() -> nn.Module:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(encoder_folder(text.encoder))
        bert = AutoModel.from_config(config, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
        side = None
        if adapters is None:
            bert.pooler = None
        else:
            bert, side = attach(bert, text)
        return TextGraph(bert, side, None if width is None else torch.zeros(config.hidden_size, width))

    # Two tensors on purpose: the exporter takes one object given twice for one input.
    token, mask = torch.arange(14).reshape(2, 7), torch.ones(2, 7, dtype=torch.long)
    axes = {0: "texts", 1: "tokens"}
    return GraphSpec(
        "text",
        build,
        {"token": token, "mask": mask},
        ["text"] if width is None else ["text", "item"],
        {"token": axes, "mask": axes},
        {"encoder": text.encoder, "width": width, "adapters": adapters},
        settings.export.opset,
    )


def rank_specs(settings: Settings, spec: FeatureSpec, text_width: int) -> list[GraphSpec]:
    """The user tower and the ranking head."""
    width, length, features = settings.model.width, spec.history_length, len(spec.names)
    past = torch.randn(2, length, width)
    age, mask = torch.rand(2, length), torch.ones(2, length, dtype=torch.bool)
    kind = torch.zeros(2, length, dtype=torch.long)
    user_inputs = {"past": past, "kind": kind, "age": age, "past_mask": mask, "asked": torch.randn(2, text_width)}
    rank_inputs = {
        "user": torch.randn(2, width),
        "past": past,
        "age": age,
        "past_mask": mask,
        "candidate": torch.randn(2, 5, width),
        "feature": torch.randn(2, 5, features),
    }
    architecture = {
        **settings.model.model_dump(),
        "length": length,
        "features": features,
        "kinds": len(spec.kinds),
        "text_width": text_width,
    }
    batch = {0: "requests"}
    wide = {0: "requests", 1: "candidates"}
    user_build: Callable[[], nn.Module] = lambda: UserGraph(UserTower(text_width, len(spec.kinds), settings.model))  # noqa: E731
    rank_build: Callable[[], nn.Module] = lambda: RankGraph(RankingHead(features, settings.model))  # noqa: E731
    opset = settings.export.opset
    rank_axes = {name: wide if name in ("candidate", "feature") else batch for name in rank_inputs}
    return [
        GraphSpec(
            "user", user_build, user_inputs, ["user_vector"], dict.fromkeys(user_inputs, batch), architecture, opset
        ),
        GraphSpec("rank", rank_build, rank_inputs, ["score"], rank_axes, architecture, opset),
    ]


def classify_spec(settings: Settings, text_width: int, labels: int) -> GraphSpec:
    """The classifier over `labels` labels."""
    return GraphSpec(
        "classify",
        lambda: ClassifyGraph(text_width, labels),
        {"text": torch.randn(2, text_width)},
        ["probability"],
        {"text": {0: "texts"}},
        {"text_width": text_width, "labels": labels},
        settings.export.opset,
    )
