"""The networks: what they must not see, and how they grow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from core_bench import small_settings

from penstock.errors import SettingsError
from penstock.model.activations import ActivationCache
from penstock.model.classifier import UNSEEN_BIAS, Classifier
from penstock.model.ranking import RankingModel
from penstock.model.text_encoder import TextEncoder, tokenizer_of
from penstock.settings import Settings

TEXTS = ["wool", "a red wool scarf with a long fringe", "a blue hat", "scarf"]


@pytest.fixture
def small(tmp_path: Path, tiny_encoder: str) -> Settings:
    return small_settings(tmp_path, tiny_encoder)


@pytest.fixture
def model(small: Settings) -> RankingModel:
    torch.manual_seed(0)
    return RankingModel(16, 6, 7, small.model).eval()


def test_a_new_item_begins_with_its_text_alone(model: RankingModel) -> None:
    assert model.grow(3)
    with torch.no_grad():
        model.residual[1] = 2.0
    assert model.grow(5)
    assert not model.grow(4)
    assert model.residual[1].eq(2.0).all()
    assert not model.residual[[0, 2, 3, 4]].any()
    assert all(parameter is not model.residual for parameter in model.head_parameters())


def test_what_is_masked_in_the_past_has_no_influence(model: RankingModel) -> None:
    past, age = torch.randn(2, 5, 8), torch.rand(2, 5)
    kind, text = torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 16)
    mask = torch.tensor([[False, False, True, True, True]] * 2)
    candidate, feature = torch.randn(2, 4, 8), torch.randn(2, 4, 7)

    def scores() -> torch.Tensor:
        user = model.user(past, kind, age, mask, text)
        return model.rank(user, past, age, mask, candidate, feature)

    before = scores()
    past[:, :2], age[:, :2], kind[:, :2] = 9.0, 5.0, 3
    torch.testing.assert_close(scores(), before)
    past[:, 3] = 9.0
    assert not torch.allclose(scores(), before)


def test_a_candidate_is_scored_alike_whoever_stands_beside_it(model: RankingModel) -> None:
    past, age, mask = torch.randn(1, 5, 8), torch.rand(1, 5), torch.ones(1, 5, dtype=torch.bool)
    user, candidate, feature = torch.randn(1, 8), torch.randn(1, 4, 8), torch.randn(1, 4, 7)
    together = model.rank(user, past, age, mask, candidate, feature)
    alone = model.rank(user, past, age, mask, candidate[:, 2:3], feature[:, 2:3])
    torch.testing.assert_close(together[:, 2:3], alone)


def test_a_user_without_a_past_is_finite(model: RankingModel) -> None:
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    user = model.user(
        torch.randn(1, 5, 8), torch.zeros(1, 5, dtype=torch.long), torch.rand(1, 5), nothing, torch.zeros(1, 16)
    )
    torch.testing.assert_close(user[0], model.user.bias)


def test_labels_are_added_out_of_the_running_and_old_ones_keep_their_weights() -> None:
    network = Classifier(4, 0)
    assert network.grow(2)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.bias.fill_(0.5)
    assert network.grow(3)
    assert not network.grow(3)
    assert network(torch.ones(1, 4)).tolist() == [[40.5, 40.5, UNSEEN_BIAS]]
    assert network.start.shape == (5, 3)


def test_a_text_has_one_vector_alone_in_a_batch_and_from_the_cache(small: Settings) -> None:
    torch.manual_seed(0)
    encoder, tokenizer = TextEncoder(small.text), tokenizer_of(small.text)
    with torch.no_grad():
        for parameter in encoder.tuned_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        alone = torch.cat([encoder(torch.tensor([encoding.ids])) for encoding in tokenizer.encode_batch(TEXTS)])
    cached = ActivationCache(encoder, tokenizer, torch.device("cpu"), None, 0).vectors(TEXTS)
    torch.testing.assert_close(cached, alone, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(alone.norm(dim=1), 1.0, rtol=1e-5)
    assert float((alone[0] - alone[1]).abs().max()) > 0.01


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20)).save_pretrained(tmp_path / "gpt")
    with pytest.raises(SettingsError, match=r"expected a BERT-like encoder"):
        TextEncoder(small_settings(tmp_path, str(tmp_path / "gpt")).text)
