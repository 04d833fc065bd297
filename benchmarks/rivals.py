"""Three other ways to learn from the same requests, each as well as it can be done on its own terms.

All start from the same MiniLM weights, train all of them with AdamW at 2e-5, and see each request's past items (newest
first) and its shown items as titles.

R requests, C shown items, L past items, S slots (past and shown items of all requests), T tokens, D width.
"""

import logging
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from penstock.features.examples import Examples
from penstock.model.losses import listwise_softmax
from penstock.model.text_encoder import TextEncoder, encoder_folder, same_length, tokenizer_of
from penstock.settings import Settings

LEARNING_RATE = 2e-5
ARTICLE_TOKENS, ARTICLE_BATCH = 128, 16
SLOT_BATCH = 16
PAIR_BATCH = 64


class Rival(Protocol):
    """Learns from requests and scores them."""

    name: str

    def learn(self, examples: Examples) -> None:
        """One pass."""

    def scores(self, examples: Examples) -> np.ndarray:
        """[R, C]."""


def past_titles(texts: list[str], examples: Examples, request: int) -> list[str]:
    """Newest first."""
    rows = examples.past_row_RL[request][examples.past_mask_RL[request]][::-1]
    return [texts[row] for row in rows]


class Article:
    """The article's code: a classifier with two labels over (shown item, past) as one text, padded to 128 tokens.

    The shown item stands first, so that cutting at 128 tokens cuts the oldest of the past and never the item.
    """

    name = "article"

    def __init__(self, texts: list[str]) -> None:
        from transformers import AutoTokenizer, BertForSequenceClassification
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        folder = encoder_folder("minilm")
        torch.manual_seed(0)
        self.texts, self.tokenizer = texts, AutoTokenizer.from_pretrained(folder)
        self.model = BertForSequenceClassification.from_pretrained(folder, num_labels=2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE)

    def _pairs(self, examples: Examples) -> tuple[list[str], list[str], list[int]]:
        first, second, label = [], [], []
        for request in range(len(examples)):
            past = ", ".join(past_titles(self.texts, examples, request))
            mask_C = examples.mask_RC[request]
            for row, gain in zip(examples.row_RC[request][mask_C], examples.gain_RC[request][mask_C], strict=True):
                first.append(self.texts[row])
                second.append(past)
                label.append(int(gain > 0))
        return first, second, label

    def _inputs(self, first: list[str], second: list[str]) -> dict[str, Tensor]:
        return dict(
            self.tokenizer(
                first, second, padding="max_length", truncation="only_second", max_length=ARTICLE_TOKENS,
                return_tensors="pt",
            )
        )  # fmt: skip

    def learn(self, examples: Examples) -> None:
        """Batches of 16 texts, in random order."""
        self.model.train()
        first, second, label = self._pairs(examples)
        order = np.random.default_rng(0).permutation(len(label))
        for start in range(0, len(order), ARTICLE_BATCH):
            picked = order[start : start + ARTICLE_BATCH]
            inputs = self._inputs([first[i] for i in picked], [second[i] for i in picked])
            loss = self.model(**inputs, labels=torch.tensor([label[i] for i in picked])).loss
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    def scores(self, examples: Examples) -> np.ndarray:
        """Log-odds of a click."""
        self.model.eval()
        first, second, _ = self._pairs(examples)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(first), 64):
                inputs = self._inputs(first[start : start + 64], second[start : start + 64])
                logit = self.model(**inputs).logits
                parts.append(logit[:, 1] - logit[:, 0])
        out_RC = np.full(examples.row_RC.shape, -np.inf, np.float32)
        out_RC[examples.mask_RC] = torch.cat(parts).numpy()
        return out_RC


class Slots:
    """Every past and shown item of a request encoded anew, without padding; listwise softmax over the shown items.

    The user is the mean of the past items' vectors. `scale` makes cosines into logits.
    """

    name = "slots"

    def __init__(self, texts: list[str], settings: Settings, scale: float = 20.0) -> None:
        full = settings.override({"text.tuning": "full"})
        self.encoder = TextEncoder(full.text)
        self.tokens = [encoding.ids for encoding in tokenizer_of(full.text).encode_batch(texts)]
        self.scale = scale
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), LEARNING_RATE)

    def _vectors(self, rows: np.ndarray) -> Tensor:
        tokens = [self.tokens[row] for row in rows]
        order, parts = [], []
        for picked in same_length([len(row) for row in tokens], 4096):
            order.append(picked)
            parts.append(self.encoder(torch.tensor([tokens[index] for index in picked])))
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order)))]

    def _scores(self, past_RLD: Tensor, shown_RCD: Tensor, examples: Examples) -> Tensor:
        mask_RL1 = torch.from_numpy(examples.past_mask_RL)[..., None]
        user_RD = nn.functional.normalize((past_RLD * mask_RL1).sum(1), dim=-1)
        return (shown_RCD @ user_RD[..., None])[..., 0] * self.scale

    def learn(self, examples: Examples) -> None:
        """Batches of 16 requests."""
        for start in range(0, len(examples), SLOT_BATCH):
            batch = examples.take(slice(start, start + SLOT_BATCH))
            past_mask, mask = torch.from_numpy(batch.past_mask_RL), torch.from_numpy(batch.mask_RC)
            slot_S = np.concatenate([batch.past_row_RL[batch.past_mask_RL], batch.row_RC[batch.mask_RC]])
            vector_SD = self._vectors(slot_S)
            past_RLD = torch.zeros(*past_mask.shape, self.encoder.width)
            shown_RCD = torch.zeros(*mask.shape, self.encoder.width)
            count = int(past_mask.sum())
            past_RLD[past_mask], shown_RCD[mask] = vector_SD[:count], vector_SD[count:]
            score_RC = self._scores(past_RLD, shown_RCD, batch)
            gain_RC, offset_RC = torch.from_numpy(batch.gain_RC), torch.from_numpy(batch.offset_RC)
            loss = listwise_softmax(score_RC, gain_RC, offset_RC, mask)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    def scores(self, examples: Examples) -> np.ndarray:
        """Scaled cosines; here each text is encoded once, since nothing is timed."""
        rows = np.union1d(examples.past_row_RL, examples.row_RC)
        with torch.inference_mode():
            table = self._vectors(rows)
            place = torch.from_numpy(np.searchsorted(rows, examples.past_row_RL))
            shown = torch.from_numpy(np.searchsorted(rows, examples.row_RC))
            score_RC = self._scores(table[place], table[shown], examples).numpy()
        return np.where(examples.mask_RC, score_RC, -np.inf)


class SentencePairs:
    """sentence-transformers' own loop: (past, clicked item), in-batch negatives, 64 pairs of like length a batch.

    `old_fit` is the loop that needs no `datasets`; what it computes in a step is what the newer trainer computes.
    """

    name = "sentence-transformers"

    def __init__(self, texts: list[str]) -> None:
        from sentence_transformers import SentenceTransformer

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        self.texts = texts
        self.model = SentenceTransformer(str(encoder_folder("minilm")), device="cpu")
        self.model.max_seq_length = ARTICLE_TOKENS

    def learn(self, examples: Examples) -> None:
        """Long pasts together, batches in random order."""
        import warnings

        from sentence_transformers import InputExample, losses
        from torch.utils.data import DataLoader

        pairs = []
        for request in range(len(examples)):
            past = ", ".join(past_titles(self.texts, examples, request))
            best = int(examples.row_RC[request][np.argmax(examples.gain_RC[request])])
            pairs.append(InputExample(texts=[past, self.texts[best]]))
        pairs.sort(key=lambda pair: len(pair.texts[0]))
        batches = [list(range(at, min(at + PAIR_BATCH, len(pairs)))) for at in range(0, len(pairs), PAIR_BATCH)]
        order = np.random.default_rng(0).permutation(len(batches))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own deprecations
            loader = DataLoader(pairs, batch_sampler=[batches[index] for index in order])
            loss = losses.MultipleNegativesRankingLoss(self.model)
            self.model.old_fit(
                [(loader, loss)], epochs=1, warmup_steps=0, scheduler="constantlr",
                optimizer_params={"lr": LEARNING_RATE}, show_progress_bar=False, save_best_model=False,
            )  # fmt: skip

    def scores(self, examples: Examples) -> np.ndarray:
        """Cosines of the past and the shown items."""
        rows = np.unique(examples.row_RC)
        pasts = [", ".join(past_titles(self.texts, examples, request)) for request in range(len(examples))]
        options = {"normalize_embeddings": True, "show_progress_bar": False}
        past_RD = self.model.encode(pasts, **options)
        shown_UD = self.model.encode([self.texts[row] for row in rows], **options)
        shown_RCD = shown_UD[np.searchsorted(rows, examples.row_RC)]
        score_RC = (shown_RCD @ past_RD[..., None])[..., 0]
        return np.where(examples.mask_RC, score_RC, -np.inf)
