"""Scores from the exported graphs: the only scorer there is, used by evaluation and service alike.

R requests, C candidates, L past events, E width of a vector, T width of a text vector, F features, N items.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penstock.features.examples import Examples, Past, past_arrays
from penstock.features.history import History
from penstock.features.staged import staged
from penstock.inference.sessions import Session

TOKENS_PER_RUN = {"cpu": 256, "gpu": 16_384}  # a core's cache holds what 256 tokens become; a GPU wants to be filled
CELLS_PER_RUN = 60_000


class TextEngine:
    """Texts to vectors through text.onnx: batches of like length, side by side, each on one thread.

    Args:
        threads: batches at once on a CPU; 0: as many as there are cores. Several threads on one batch of short texts
            wait for each other more than they work (docs/decisions/0020).
    """

    def __init__(self, graph: bytes | Path, tokenizer: str, device: str = "auto", threads: int = 0) -> None:
        self.session = Session(graph, device, threads=1)
        self.tokenizer = _tokenizer(tokenizer)
        on_cpu = self.session.provider == "CPUExecutionProvider"
        self.at_once = (threads or os.cpu_count() or 1) if on_cpu else 1
        self.tokens_per_run = TOKENS_PER_RUN["cpu" if on_cpu else "gpu"]

    def encode(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """The graph's outputs for `texts`: text vectors [B, T] and, for a ranker, item vectors [B, E]."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        batches = list(_batches([len(row) for row in tokens], self.tokens_per_run))
        if not batches:
            return []
        parts = self._run([[tokens[index] for index in batch] for batch in batches])
        back = np.argsort(np.concatenate(batches))
        return [np.concatenate(column)[back] for column in zip(*parts, strict=True)]

    def _run(self, batches: list[list[list[int]]]) -> list[list[NDArray[np.float32]]]:
        if self.at_once == 1 or len(batches) == 1:
            return [self._run_one(batch) for batch in batches]
        with ThreadPoolExecutor(min(self.at_once, len(batches))) as threads:
            return list(threads.map(self._run_one, batches))

    def _run_one(self, batch: list[list[int]]) -> list[NDArray[np.float32]]:
        token_BT = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask_BT = np.zeros_like(token_BT)
        for index, row in enumerate(batch):
            token_BT[index, : len(row)], mask_BT[index, : len(row)] = row, 1
        return self.session.run(token=token_BT, mask=mask_BT)


def _batches(lengths: list[int], tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches, longest first: at most `tokens` tokens with padding, or one row."""
    order = np.argsort(-np.array(lengths, np.int64), kind="stable")
    start = 0
    while start < len(order):
        end = start + max(1, tokens // max(1, lengths[order[start]]))
        yield order[start:end]
        start = end


@lru_cache(maxsize=2)
def _tokenizer(text: str) -> Tokenizer:
    """The tokenizer of a file's text. Versions share it: it is the same from round to round, and reading it holds the
    interpreter for 30 ms."""
    tokenizer: Tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    return tokenizer


class RankEngine:
    """The user tower and the ranking head over an index of item vectors."""

    def __init__(
        self,
        user_graph: bytes | Path,
        rank_graph: bytes | Path,
        vector_NE: NDArray[np.float32],
        text_width: int,
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        self.user, self.rank = Session(user_graph, device, threads), Session(rank_graph, device, threads)
        self.vector_NE, self.text_width = vector_NE, text_width

    def user_vectors(
        self,
        row_RL: NDArray[np.int64],
        kind_RL: NDArray[np.int64],
        age_RL: NDArray[np.float32],
        mask_RL: NDArray[np.bool_],
        asked_RT: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """User vectors [R, E]."""
        asked = np.zeros((len(row_RL), self.text_width), np.float32) if asked_RT is None else asked_RT
        past_RLE = self.vector_NE.take(row_RL, axis=0)
        return self.user.run(past=past_RLE, kind=kind_RL, age=age_RL, past_mask=mask_RL, asked=asked)[0]

    def user_vector(self, history: History, length: int, at_s: float) -> NDArray[np.float32]:
        """The vector [E] of a user whose last `length` events count, at `at_s` seconds since the epoch."""
        row_L, kind_L, age_L, mask_L = past_arrays(history, length, at_s)
        return np.asarray(self.user_vectors(row_L[None], kind_L[None], age_L[None], mask_L[None])[0])

    def nearest(self, vector_E: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the `count` items with the largest dot product, best first."""
        score_N = self.vector_NE @ vector_E
        count = min(count, len(score_N))
        top = np.argpartition(-score_N, count - 1)[:count]
        return np.asarray(top[np.argsort(-score_N[top], kind="stable")])

    @staged("scoring")
    def scores(self, examples: Examples, asked_RT: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Scores [R, C], -inf where padded."""
        width = max(examples.row_RC.shape[1], 1)
        step = max(1, CELLS_PER_RUN // width)
        out_RC = np.empty(examples.row_RC.shape, np.float32)
        for start in range(0, len(examples), step):
            part = slice(start, start + step)
            some = examples if step >= len(examples) else examples.take(part)
            past = (some.past_row_RL, some.past_kind_RL, some.past_age_RL, some.past_mask_RL)
            asked = None if asked_RT is None else asked_RT[part]
            out_RC[part] = self._rank(self.user_vectors(*past, asked), past, some.row_RC, some.feature_RCF)
        out_RC[~examples.mask_RC] = -np.inf
        return out_RC

    @staged("scoring")
    def score(
        self, user_E: NDArray[np.float32], past: Past, row_C: NDArray[np.int64], feature_CF: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores [C] of one request's candidates; `past` as `past_arrays` gives it."""
        of_one = (past[0][None], past[1][None], past[2][None], past[3][None])
        return np.asarray(self._rank(user_E[None], of_one, row_C[None], feature_CF[None])[0])

    def _rank(
        self, user_RE: NDArray[np.float32], past: Past, row_RC: NDArray[np.int64], feature_RCF: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        row_RL, _, age_RL, mask_RL = past
        return self.rank.run(
            user=user_RE,
            past=self.vector_NE.take(row_RL, axis=0),
            age=age_RL,
            past_mask=mask_RL,
            candidate=self.vector_NE.take(row_RC, axis=0),
            feature=feature_RCF,
        )[0]
