"""SASRec as a contender: trained on the warm-up, then online with each window.

Cross-entropy over every item instead of the paper's one sampled negative: with it SASRec is far stronger (Klenitskiy
and Vasilev, RecSys 2023; Petrov and Macdonald, RecSys 2023). An event is predicted from what the user had strictly
before its moment, as the protocol asks, never from other events of the same moment.

B sequences, L places, X targets, W width, N items, S items of a softmax.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.features.examples import Asked, walk
from penstock.features.state import CausalState
from penstock.metrics import Floats
from penstock.pipeline.contenders import Probe, counted_events
from penstock.pipeline.rivals.sasrec_network import SasrecNetwork
from penstock.settings import SasrecSettings
from penstock.training.steps import repeatable

NEVER = -1e9


@dataclass
class Past:
    """One user's items and their times in seconds, oldest first; `learned`: how many were targets already."""

    row: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    learned: int = 0


@dataclass(frozen=True)
class Stretch:
    """A part of a user's past to learn from.

    Attributes:
        row_L: int64, at most `length` items.
        source_X: int64, for each target how many of `row_L` stand strictly before its moment.
        target_X: int64, item rows.
    """

    row_L: NDArray[np.int64]
    source_X: NDArray[np.int64]
    target_X: NDArray[np.int64]


class Sasrec:
    """See the module. Deterministic given the seed, on the CPU.

    Args:
        repeats: False where what a user had is no candidate; then it is no alternative in the softmax either.
    """

    name = "SASRec"

    def __init__(self, state: CausalState, settings: SasrecSettings, repeats: bool, seed: int) -> None:
        torch.manual_seed(seed)
        self.state, self.settings, self.repeats = state, settings, repeats
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = SasrecNetwork(len(state.items), settings).to(self.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), settings.learning_rate, weight_decay=0.0)
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.past: dict[int, Past] = {}
        self.users: dict[str, int] = {}
        self.count_N = np.zeros(len(state.items))
        self.warm = False

    def window(self, events: pl.DataFrame, requests: pl.DataFrame, probe: Probe, learns: bool) -> None:
        self.network.eval()
        for asked in walk(self.state, events, requests, "window", count=False):
            probe(asked)
        if not learns:
            return
        touched = self._take(*counted_events(self.state, events, self.users))
        if self.warm:
            new = [stretch for user in touched for stretch in self._new(self.past[user])]
            self._fit(new, self.settings.online_epochs, self.settings.online_learning_rate)

    def warmed(self) -> None:
        """Train on everything so far; the learning rate falls to a tenth along a cosine."""
        stretches = [stretch for past in self.past.values() for stretch in self._new(past)]
        self._fit(stretches, self.settings.epochs, self.settings.learning_rate, falling=True)
        self.warm = True

    @torch.no_grad()
    def scores(self, asked: Asked, row_C: NDArray[np.int64]) -> Floats:
        recent_L = asked.history.row_L[-self.settings.length :]
        row_1L = torch.from_numpy(np.concatenate([[self.network.begin], recent_L]).astype(np.int64))[None]
        hidden_1W = self.network(row_1L.to(self.device))[:, -1]
        score_C = self.network.logits(hidden_1W, torch.from_numpy(row_C).to(self.device))[0]
        return np.asarray(score_C.cpu().numpy(), np.float64)

    def _take(self, user_E: NDArray[np.int64], row_E: NDArray[np.int64], at_s_E: NDArray[np.float64]) -> list[int]:
        for user, row, at_s in zip(user_E.tolist(), row_E.tolist(), at_s_E.tolist(), strict=True):
            past = self.past.setdefault(user, Past())
            past.row.append(row)
            past.at_s.append(at_s)
        self.count_N += np.bincount(row_E, minlength=len(self.count_N))
        return list(dict.fromkeys(user_E.tolist()))

    def _new(self, past: Past) -> list[Stretch]:
        """The user's events that were no target yet, each stretch with as much past before them as fits."""
        stretches = []
        step = max(self.settings.length * 3 // 4, 1)
        while past.learned < len(past.row):
            stop = min(past.learned + step, len(past.row))
            stretches.append(self._stretch(past, past.learned, stop))
            past.learned = stop
        return stretches

    def _stretch(self, past: Past, start: int, stop: int) -> Stretch:
        """Targets `start` to `stop` of a user's past."""
        first = max(0, stop - self.settings.length)
        at_s_L, row_L = np.array(past.at_s[first:stop]), np.array(past.row[first:stop], np.int64)
        source_L = np.searchsorted(at_s_L, at_s_L, side="left")
        targets = slice(start - first, None)
        return Stretch(row_L, source_L[targets], row_L[targets])

    def _old(self, count: int) -> list[Stretch]:
        """Stretches of users drawn at random, of what was learned already."""
        known = [past for past in self.past.values() if past.learned]
        drawn = [known[n] for n in self.random.integers(len(known), size=count)]
        out = []
        for past in drawn:
            stop = int(self.random.integers(1, past.learned + 1))
            out.append(self._stretch(past, max(0, stop - self.settings.length * 3 // 4), stop))
        return out

    def _fit(self, stretches: list[Stretch], epochs: int, learning_rate: float, falling: bool = False) -> None:
        """Steps over the stretches in random order, as many old ones beside the new as `replay_share` says."""
        size = self.settings.batch_sequences
        self.network.train()
        with repeatable(self.device):
            for epoch in range(epochs):
                share = 0.55 + 0.45 * np.cos(np.pi * epoch / epochs) if falling else 1.0
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate * share
                order = self.random.permutation(len(stretches))
                for begin in range(0, len(order), size):
                    batch = [stretches[place] for place in order[begin : begin + size]]
                    old = [] if falling else self._old(round(len(batch) * self.settings.replay_share))
                    self._step(batch + old)
        self.network.eval()

    def _step(self, batch: list[Stretch]) -> None:
        length = max(len(one.row_L) for one in batch) + 1
        row_BL = np.full((len(batch), length), self.network.begin, np.int64)
        for place, one in enumerate(batch):
            row_BL[place, 1 : len(one.row_L) + 1] = one.row_L
        place_X = np.concatenate([np.full(len(one.target_X), place) for place, one in enumerate(batch)])
        source_X = np.concatenate([one.source_X for one in batch])
        target_X = torch.from_numpy(np.concatenate([one.target_X for one in batch])).to(self.device)
        hidden_BLW = self.network(torch.from_numpy(row_BL).to(self.device))
        flat_X = torch.from_numpy(place_X * length + source_X).to(self.device)
        hidden_XW = hidden_BLW.reshape(-1, hidden_BLW.shape[-1])[flat_X]
        had_XL = np.where(np.arange(length) <= source_X[:, None], row_BL[place_X], self.network.begin)
        loss = self._loss(hidden_XW, target_X, torch.from_numpy(had_XL).to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()

    def _loss(self, hidden_XW: Tensor, target_X: Tensor, had_XL: Tensor) -> Tensor:
        """Softmax over all items, or over a shared sample of them corrected for how likely each was drawn (logQ)."""
        size, items = self.settings.softmax_items, self.network.begin
        if items <= size:
            logit_XN = self.network.logits(hidden_XW)
            if not self.repeats:
                # One column more takes the padding; a target is never among what was had before it.
                logit_XN = nn.functional.pad(logit_XN, (0, 1)).scatter(1, had_XL, NEVER)[:, :items]
            return nn.functional.cross_entropy(logit_XN, target_X)
        chance_N = torch.from_numpy(self.count_N + 1.0).float()
        chance_N /= chance_N.sum()
        drawn_S = torch.multinomial(chance_N, size, replacement=True, generator=self.generator).to(self.device)
        correction_S = torch.log(chance_N.to(self.device)[drawn_S] * size)
        logit_XS = self.network.logits(hidden_XW, drawn_S) - correction_S
        logit_XS = logit_XS.masked_fill(drawn_S[None, :] == target_X[:, None], NEVER)
        own_X1 = (hidden_XW * self.network.item(target_X)).sum(1, keepdim=True) + self.network.bias[target_X][:, None]
        zero_X = torch.zeros(len(target_X), dtype=torch.long, device=self.device)
        return nn.functional.cross_entropy(torch.cat([own_X1, logit_XS], 1), zero_X)
