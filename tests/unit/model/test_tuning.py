"""Every tuning method: what it may change, that it begins as no change, that what is kept gives the same vectors, and
that its gradient is that of the plain encoder."""

from pathlib import Path

import pytest
import torch
from core_bench import small_settings

from penstock.model.activations import ActivationCache
from penstock.model.text_encoder import TextEncoder, same_length, tokenizer_of
from penstock.settings import Settings

METHODS = ("frozen", "side_adapter", "lora", "bottleneck", "top_layers", "full")
TEXTS = ["wool", "a red wool scarf with a very long fringe for the windy days of march", "a blue hat", "scarf, hat"]


def tuned_settings(root: Path, encoder: str, method: str) -> Settings:
    return small_settings(root, encoder, **{"text.tuning": method})


def shaken(encoder: TextEncoder) -> TextEncoder:
    """Whatever may change, changed."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in encoder.tuned_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


def cache_of(settings: Settings, encoder: TextEncoder) -> ActivationCache:
    return ActivationCache(encoder, tokenizer_of(settings.text), torch.device("cpu"), None, 0)


def plain(settings: Settings, encoder: TextEncoder) -> torch.Tensor:
    """Each text through the whole encoder, by itself."""
    tokens = [encoding.ids for encoding in tokenizer_of(settings.text).encode_batch(TEXTS)]
    return torch.cat([encoder(torch.tensor([row])) for row in tokens])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_begins_as_the_pretrained_encoder(tmp_path: Path, tiny_encoder: str, method: str) -> None:
    settings = tuned_settings(tmp_path, tiny_encoder, method)
    frozen = tuned_settings(tmp_path, tiny_encoder, "frozen")
    start = plain(settings, TextEncoder(settings.text))
    torch.testing.assert_close(start, plain(frozen, TextEncoder(frozen.text)))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_kept_gives_the_vectors_of_the_whole_encoder(tmp_path: Path, tiny_encoder: str, method: str) -> None:
    settings = tuned_settings(tmp_path, tiny_encoder, method)
    start = TextEncoder(settings.text)
    encoder = shaken(TextEncoder(settings.text))
    with torch.no_grad():
        whole, before = plain(settings, encoder), plain(settings, start)
    torch.testing.assert_close(cache_of(settings, encoder).vectors(TEXTS), whole, rtol=2e-3, atol=2e-3)
    assert (method == "frozen") == bool(torch.allclose(whole, before)), "it moves what it says, and only then"


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_names_may_change_and_it_comes_back(
    tmp_path: Path, tiny_encoder: str, method: str
) -> None:
    settings = tuned_settings(tmp_path, tiny_encoder, method)
    encoder = shaken(TextEncoder(settings.text))
    names = list(encoder.tuned_state())
    fits = {
        "frozen": lambda name: False,
        "side_adapter": lambda name: name.startswith("side."),
        "lora": lambda name: "lora_" in name and "layer.1." in name,
        "bottleneck": lambda name: name.endswith((".up", ".down")) and "layer.1." in name,
        "top_layers": lambda name: "layer.1." in name,
        "full": lambda name: "embeddings." in name or "layer." in name,
    }
    assert bool(names) == (method != "frozen")
    assert all(fits[method](name) for name in names), names
    other = TextEncoder(settings.text)
    other.load_tuned(encoder.tuned_state())
    torch.testing.assert_close(plain(settings, other), plain(settings, encoder))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "frozen"])
def test_the_gradient_of_distinct_texts_is_the_plain_loops(tmp_path: Path, tiny_encoder: str, method: str) -> None:
    """Slots that repeat texts, each through the encoder, against each text once with its gradients added up."""
    settings = tuned_settings(tmp_path, tiny_encoder, method)
    encoder = shaken(TextEncoder(settings.text)).double()
    slots = [0, 1, 0, 3, 2, 1, 1, 0, 3]
    aim = torch.randn(len(slots), encoder.width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tokens = [encoding.ids for encoding in tokenizer_of(settings.text).encode_batch(TEXTS)]
    vectors = torch.cat([encoder(torch.tensor([tokens[slot]])) for slot in slots])
    (torch.tanh(vectors) * aim).sum().backward()
    expected = [parameter.grad.clone() for parameter in encoder.tuned_parameters()]
    encoder.zero_grad()

    with torch.no_grad():
        table = plain(settings, encoder)
    leaf = table.clone().requires_grad_(True)
    (torch.tanh(leaf[slots]) * aim).sum().backward()
    for picked in same_length([len(row) for row in tokens], 1000):
        once = encoder(torch.tensor([tokens[index] for index in picked]))
        torch.autograd.backward(once, leaf.grad[picked])
    for parameter, value in zip(encoder.tuned_parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, value, rtol=1e-9, atol=1e-12)


def test_groups_hold_one_length_and_stay_within_their_tokens() -> None:
    groups = [group.tolist() for group in same_length([3, 5, 3, 3, 9, 5], 7)]
    assert groups == [[0, 2], [3], [1], [5], [4]]
    assert list(same_length([], 7)) == []
