"""How much of a pretrained encoder a round may change, and so what of it is computed once for each text.

| method       | changes                                    | kept for each text                    |
|--------------|--------------------------------------------|---------------------------------------|
| frozen       | nothing                                    | the mean of the last layer            |
| side_adapter | a small network beside the layers          | the mean of every layer               |
| lora         | low-rank updates of the top layers         | the layer below them, token by token  |
| bottleneck   | a small network after each of them         | the same                              |
| top_layers   | the top layers themselves                  | the same                              |
| full         | everything, the embeddings too             | its tokens                            |

The further down a method reaches, the more a step and a refresh of the index cost; docs/benchmarks.md has figures.

B texts, T tokens, D width, K layers (the embeddings count as one), R adapter rank.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # benchmarks/gpu.py runs this module where pydantic is not installed
    from penstock.settings import TextSettings

Cut = Literal["tokens", "layer", "means"]
START_SCALE = 0.02


@dataclass(frozen=True)
class Reach:
    """What is kept for each text, and the first layer that is run again."""

    cut: Cut
    first: int


def reach(settings: TextSettings, layers: int) -> Reach:
    """How deep the configured method goes in an encoder of so many layers."""
    if settings.tuning in ("frozen", "side_adapter"):
        return Reach("means", layers)
    if settings.tuning == "full":
        return Reach("tokens", 0)
    return Reach("layer", max(0, layers - settings.tuned_layers))


def attach(bert: Any, settings: TextSettings) -> tuple[Any, nn.Module | None]:
    """Freeze the encoder, but for what the method changes, and add its parts, which begin as no change at all.

    Args:
        bert: a BERT-like encoder with `embeddings` and `encoder.layer`.
        settings: the text section.

    Returns:
        The encoder, wrapped by peft for LoRA, and the side adapter where the method has one.
    """
    layers = len(bert.encoder.layer)
    bert.pooler = None  # its output is not used
    bert.requires_grad_(settings.tuning == "full")
    tuned = range(reach(settings, layers).first, layers)
    width = int(bert.config.hidden_size)
    if settings.tuning == "side_adapter":
        return bert, SideAdapter(layers + 1, width, settings.adapter_rank)
    if settings.tuning == "lora":
        return _with_lora(bert, settings, list(tuned)), None
    for index in tuned:
        layer = bert.encoder.layer[index]
        if settings.tuning == "bottleneck":
            layer.output = Bottleneck(layer.output, width, settings.adapter_rank)
        elif settings.tuning == "top_layers":
            layer.requires_grad_(True)
    return bert, None


def _with_lora(bert: Any, settings: TextSettings, layers: list[int]) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # peft divides by it, a float is fine
        target_modules=["query", "value"],
        layers_to_transform=layers,
        layers_pattern="layer",
    )
    with warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5 has renamed; the renaming does not concern us.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(bert, config)


def _start(rows: int, columns: int, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * scale)


class Bottleneck(nn.Module):
    """A layer's output, plus a narrow network over it (Houlsby et al., ICML 2019, placed as by Pfeiffer et al., 2021).

    The way back begins at zero, so that at first nothing is added.
    """

    def __init__(self, output: nn.Module, width: int, rank: int) -> None:
        super().__init__()
        self.output = output
        self.down, self.up = _start(width, rank, START_SCALE), _start(rank, width, 0.0)

    def forward(self, hidden_BTI: Tensor, residual_BTD: Tensor) -> Tensor:
        """[B, T, D]."""
        out_BTD: Tensor = self.output(hidden_BTI, residual_BTD)
        return out_BTD + nn.functional.gelu(out_BTD @ self.down) @ self.up


class SideAdapter(nn.Module):
    """A narrow network that climbs beside the frozen layers and reads the mean of each (IISAN: Fu et al., SIGIR 2024).

    No gradient enters the encoder, and a text costs K small products whatever its length.
    """

    def __init__(self, layers: int, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ParameterList([_start(width, rank, width**-0.5) for _ in range(layers)])
        self.up = nn.ParameterList([_start(rank, width, 0.0) for _ in range(layers)])
        self.keep = nn.ParameterList([nn.Parameter(torch.tensor([0.5])) for _ in range(layers)])

    def forward(self, mean_BKD: Tensor) -> Tensor:
        """What is added to the last layer's mean: [B, D]."""
        side_BD = torch.zeros_like(mean_BKD[:, 0])
        for index, (down, up, keep) in enumerate(zip(self.down, self.up, self.keep, strict=True)):
            read_BD = mean_BKD[:, index] + side_BD
            side_BD = side_BD * keep + nn.functional.gelu(read_BD @ down) @ up
        return side_BD
