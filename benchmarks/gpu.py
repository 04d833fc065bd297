"""MiniLM's full fine-tune and a whole round on a GPU; needs torch, transformers, onnx and onnxruntime, nothing else.

    python benchmarks/gpu.py [--compile]

The code is penstock's own (encoder, ranking model, loss): bf16, fused AdamW, texts of one length in one run so that no
position is padding, each distinct item encoded once a round. Without the packaged weights the encoder has random ones
of the same shape, which take the same time. On a machine without a GPU it runs tiny sizes and says so: those figures
only show that it works.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import torch
from torch import Tensor

import measure
from penstock.errors import DependencyMissing
from penstock.model.losses import listwise_softmax
from penstock.model.ranking import RankingModel
from penstock.model.text_encoder import TextEncoder, encoder_folder

TOKENS, PAST, SHOWN, FEATURES, KINDS = 32, 20, 5, 29, 5
TEXT: Any = SimpleNamespace(tuning="full", tuned_layers=6)
MODEL: Any = SimpleNamespace(width=64, attention_width=32, cross_layers=2, hidden=64, dropout=0.1)
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def make_encoder(device: torch.device) -> tuple[TextEncoder, str]:
    """The encoder, and whose weights it has."""
    from transformers import AutoModel, BertConfig, BertModel

    try:
        bert: Any = AutoModel.from_pretrained(encoder_folder("minilm"), attn_implementation="sdpa")
        weights = "all-MiniLM-L6-v2"
    except DependencyMissing:
        bert, weights = BertModel(BertConfig(**MINILM, attn_implementation="sdpa")), "random, of MiniLM's shape"
    return TextEncoder(TEXT, bert).to(device), weights


def timed(call: Callable[[], object], device: torch.device, repeats: int = measure.REPEATS) -> list[float]:
    """Wall times with the device's queue empty before and after; two calls before them are not counted."""
    taken = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return taken[2:]


class Round:
    """Requests over a catalogue, all on the device."""

    def __init__(self, encoder: TextEncoder, device: torch.device, sizes: "Sizes") -> None:
        self.encoder, self.device, self.sizes = encoder, device, sizes
        self.model = RankingModel(encoder.width, KINDS, FEATURES, MODEL).to(device)
        self.model.grow(sizes.items)
        fused = device.type == "cuda"
        self.head_optimizer = torch.optim.AdamW(self.model.head_parameters(), 3e-3, fused=fused)
        self.text_optimizer = torch.optim.AdamW(encoder.tuned_parameters(), 2e-5, fused=fused)
        random = torch.Generator().manual_seed(7)
        self.token_NT = torch.randint(1000, 30000, (sizes.items, TOKENS), generator=random).to(device)
        # A fifth of the catalogue is on people's minds, its head far more than its tail.
        skewed = torch.rand(sizes.requests, PAST + SHOWN, generator=random).pow(3) * (sizes.items // 5)
        self.row_RS = skewed.long().to(device)
        self.feature_RCF = torch.randn(sizes.requests, SHOWN, FEATURES, generator=random).to(device)
        self.age_RL = torch.rand(sizes.requests, PAST, generator=random).to(device)
        self.text_NT = torch.zeros(sizes.items, encoder.width, device=device)

    def autocast(self) -> Any:
        """bf16 on a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def embed(self) -> None:
        """Every item through the encoder."""
        with torch.inference_mode(), self.autocast():
            for start in range(0, self.sizes.items, self.sizes.batch):
                part = slice(start, start + self.sizes.batch)
                self.text_NT[part] = self.encoder(self.token_NT[part]).float()

    def head_step(self, part: slice, gradient_NT: Tensor) -> None:
        """One batch of requests; the gradient at the items' vectors adds up."""
        row_RS = self.row_RS[part]
        row_U, place_RS = torch.unique(row_RS, return_inverse=True)
        leaf_UT = self.text_NT[row_U].requires_grad_(True)
        count = len(row_RS)
        with self.autocast():
            item_USE = self.model.item(leaf_UT)[place_RS]
            past_RLE, shown_RCE = item_USE[:, :PAST], item_USE[:, PAST:]
            kind_RL = torch.zeros(count, PAST, dtype=torch.long, device=self.device)
            mask_RL = torch.ones(count, PAST, dtype=torch.bool, device=self.device)
            asked_RT = torch.zeros(count, self.encoder.width, device=self.device)
            user_RE = self.model.user(past_RLE, kind_RL, self.age_RL[part], mask_RL, asked_RT)
            score_RC = self.model.rank(user_RE, past_RLE, self.age_RL[part], mask_RL, shown_RCE, self.feature_RCF[part])
        gain_RC = torch.zeros(count, SHOWN, device=self.device)
        gain_RC[:, 0] = 1.0
        loss = listwise_softmax(score_RC.float(), gain_RC, torch.zeros_like(gain_RC), gain_RC >= 0)
        self.head_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.head_optimizer.step()
        assert leaf_UT.grad is not None
        gradient_NT.index_add_(0, row_U, leaf_UT.grad)

    def text_step(self, gradient_NT: Tensor) -> None:
        """The exact gradient of every encoder parameter, each distinct item once, then one step."""
        row_U = torch.unique(self.row_RS)
        self.text_optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(row_U), self.sizes.batch):
            rows = row_U[start : start + self.sizes.batch]
            with self.autocast():
                vector_BT = self.encoder(self.token_NT[rows])
            torch.autograd.backward(vector_BT.float(), gradient_NT[rows])
        self.text_optimizer.step()

    def run(self) -> None:
        """Learn from every request, move the encoder, re-embed the catalogue."""
        gradient_NT = torch.zeros_like(self.text_NT)
        for start in range(0, self.sizes.requests, self.sizes.request_batch):
            self.head_step(slice(start, start + self.sizes.request_batch), gradient_NT)
        self.text_step(gradient_NT)
        self.embed()


class Sizes(SimpleNamespace):
    """Items, requests, and how many of each go through at once."""

    items: int
    requests: int
    batch: int
    request_batch: int


def titles_per_second(encoder: TextEncoder, device: torch.device, batch: int) -> tuple[float, list[float]]:
    """Full fine-tune: forward, backward and AdamW over batches of titles of 32 tokens."""
    optimizer = torch.optim.AdamW(encoder.tuned_parameters(), 2e-5, fused=device.type == "cuda")
    token_BT = torch.randint(1000, 30000, (batch, TOKENS), device=device)
    aim_BT = torch.randn(batch, encoder.width, device=device)
    steps = 10 if device.type == "cuda" else 1

    def some_steps() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                vector_BT = encoder(token_BT)
            torch.autograd.backward(vector_BT.float(), aim_BT)
            optimizer.step()

    taken = timed(some_steps, device)
    return batch * steps / measure.median(taken), taken


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="torch.compile the encoder's layers")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.manual_seed(7)
    if on_gpu:
        sizes, titles = Sizes(items=100_000, requests=10_000, batch=4096, request_batch=1024), 8192
    else:
        measure.note("no GPU on this machine: tiny sizes on the CPU, which say nothing about a GPU")
        sizes, titles = Sizes(items=40, requests=16, batch=16, request_batch=8), 4
    encoder, weights = make_encoder(device)
    if options.compile:
        for layer in encoder.bert.encoder.layer:
            layer.compile()
    rate, steps_s = titles_per_second(encoder, device, titles)
    whole = Round(encoder, device, sizes)
    whole.embed()
    round_s = timed(whole.run, device)
    figures = {
        "device": torch.cuda.get_device_name(0) if on_gpu else "CPU, tiny sizes",
        "weights": weights,
        "compiled": options.compile,
        "tokens": TOKENS,
        "titles_per_s": rate,
        "titles_batch": titles,
        "steps_s": steps_s,
        "round_requests": sizes.requests,
        "round_items": sizes.items,
        "round_s": round_s,
        "round_median_s": measure.median(round_s),
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
    }
    measure.save("gpu" if on_gpu else "gpu_on_cpu", figures)


if __name__ == "__main__":
    main()
