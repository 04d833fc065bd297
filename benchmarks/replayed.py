"""A log replayed once: what the head learns from and is scored on, as arrays in a folder, for many runs over the same.

Counters take in the whole log as in `penstock backtest`; only the head's share is cut down, the same for every run: it
learns from the newest `warm` requests of the warm-up, then window by window from at most `learned` requests, after at
most `scored` of them were ranked among all candidates. Nothing of a window is learned before it was scored.

N items, T width of a text vector, R requests, C candidates.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.dataset import Dataset, read_dataset
from penstock.evaluation.prequential import RankedRequests, Ranker, Window, equal_windows
from penstock.features.examples import Asked, Examples, build_examples, walk
from penstock.features.spec import FeatureSpec
from penstock.features.state import CausalState
from penstock.metrics import ndcg_at
from penstock.pipeline.backtest import Backtest, Protocol, positives, sampler_of
from penstock.settings import Settings
from penstock.text import item_texts
from penstock.training.learner import Learner

DEPTH = 10
WARM_SLICES = 40


@dataclass(frozen=True)
class Size:
    """How much of a log the head sees; `last_quarter`: the warm-up's last quarter is the stream, for choosing."""

    windows: int = 12
    warm: int = 2000
    learned: int = 120
    scored: int = 80
    last_quarter: bool = False


@dataclass(frozen=True)
class Scored:
    """Requests to rank, in batches; `wanted_RC`: which candidates were wanted; `n_wanted_R` counts absent ones too."""

    batches: list[Examples]
    wanted: list[NDArray[np.bool_]]
    n_wanted_R: NDArray[np.int64]
    user_R: NDArray[np.str_]

    def ndcg(self, learner: Learner) -> NDArray[np.float64]:
        """NDCG@10 of each request."""
        request, rank, first = [], [], 0
        for batch, wanted_RC in zip(self.batches, self.wanted, strict=True):
            score_RC = scores(learner, batch)
            order_RC = np.argsort(-np.where(batch.mask_RC, score_RC, -np.inf), axis=1, kind="stable")[:, :DEPTH]
            at_R, place_R = np.nonzero(np.take_along_axis(wanted_RC, order_RC, 1))
            request.append(at_R + first)
            rank.append(place_R + 1)
            first += len(batch)
        return ndcg_at(np.concatenate(request), np.concatenate(rank), self.n_wanted_R, DEPTH)


@dataclass(frozen=True)
class Replayed:
    """`stream`: of each window what is scored, then what is learned."""

    spec: FeatureSpec
    texts: list[str]
    warm: Examples
    stream: list[tuple[Scored, Examples]]


def scores(learner: Learner, batch: Examples) -> NDArray[np.float32]:
    """The learner's scores [R, C], as the exported graphs give them."""
    model = learner.task.model
    with torch.inference_mode():
        item_NE = model.item(learner.text_NT) + model.residual
        past_RLE = item_NE[torch.from_numpy(batch.past_row_RL)]
        age_RL, mask_RL = torch.from_numpy(batch.past_age_RL), torch.from_numpy(batch.past_mask_RL)
        asked_RT = torch.zeros(len(batch), learner.text_NT.shape[1])
        user_RE = model.user(past_RLE, torch.from_numpy(batch.past_kind_RL), age_RL, mask_RL, asked_RT)
        candidate_RCE = item_NE[torch.from_numpy(batch.row_RC)]
        feature_RCF = torch.from_numpy(batch.feature_RCF)
        return np.asarray(model.rank(user_RE, past_RLE, age_RL, mask_RL, candidate_RCE, feature_RCF).numpy())


class _Recorder:
    """Stands where the exported graphs stand and keeps the batches it is asked to score."""

    def __init__(self) -> None:
        self.batches: list[Examples] = []

    def scores(self, batch: Examples) -> NDArray[np.float32]:
        self.batches.append(batch)
        return np.zeros(batch.row_RC.shape, np.float32)


def replay(dataset: Dataset, settings: Settings, size: Size) -> Replayed:
    """Walk the log once."""
    settings = settings.override({"backtest.max_requests_per_window": size.scored, "backtest.windows": 40})
    if size.last_quarter:
        counted = positives(dataset, settings)
        dataset = replace(dataset, events=counted[: int(len(counted) * settings.backtest.warmup)])
        settings = settings.override({"backtest.warmup": 0.75, "backtest.windows": size.windows})
    backtest = Backtest(dataset, settings, Path("unused"), lambda what, done, total: None)
    state = CausalState(FeatureSpec.of(backtest.settings))
    state.add_items(dataset.catalogue)
    protocol = Protocol(state, dataset.meta.repeats)
    warm = _warm(backtest, state, size)
    protocol.advance(backtest.warm)
    stream = [_window(backtest, state, protocol, window, size) for window in backtest.windows(None)[: size.windows]]
    return Replayed(state.spec, item_texts(dataset.catalogue), warm, [part for part in stream if part is not None])


def _warm(backtest: Backtest, state: CausalState, size: Size) -> Examples:
    slices = [window for window in equal_windows(backtest.warm, WARM_SLICES) if len(window.events)]
    counts = [(backtest.grouped(window.events)["relevant"].list.len() > 0).sum() for window in slices]
    parts = []
    for index, window in enumerate(slices):
        requests = backtest.grouped(window.events)
        if sum(counts[index + 1 :]) >= size.warm:  # older than what is learned from
            for _ in walk(state, window.events, requests, "window"):
                pass
        else:
            parts.append(build_examples(state, window.events, requests, "window", _sampler(backtest, window.index)))
    examples = Examples.join([part for part in parts if len(part)])
    return examples.take(slice(max(0, len(examples) - size.warm), None))


def _sampler(backtest: Backtest, index: int) -> Any:
    return sampler_of(backtest.settings, index)


def _window(
    backtest: Backtest, state: CausalState, protocol: Protocol, window: Window, size: Size
) -> tuple[Scored, Examples] | None:
    if not len(window.events):
        return None
    recorder, ranked, wanted_rows = _Recorder(), RankedRequests(), []
    ranker = Ranker(state, recorder, ranked, protocol.candidates)

    def probe(asked: Asked) -> None:
        found = backtest.scored(asked)
        if found is not None:
            ranker.ask(*found)
            wanted_rows.append([state.row_of[item] for item in found[1].request["relevant"] if item in state.row_of])

    examples = build_examples(
        state, window.events, backtest.grouped(window.events), "window", _sampler(backtest, 1000 + window.index), probe
    )
    ranker.finish()
    protocol.advance(window.events)
    if not ranked.user:
        return None
    kept = np.sort(np.random.default_rng(window.index).permutation(len(examples))[: size.learned])
    wanted, first = [], 0
    for batch in recorder.batches:
        rows = wanted_rows[first : first + len(batch)]
        wanted.append(np.stack([np.isin(batch.row_RC[at], row) for at, row in enumerate(rows)]) & batch.mask_RC)
        first += len(batch)
    return Scored(recorder.batches, wanted, np.array(ranked.n_relevant), np.array(ranked.user)), examples.take(kept)


# ---- keeping


def stored(folder: Path, data: Path, settings: Settings, size: Size) -> Replayed:
    """The arrays of a log from `folder`, replayed and written there first where they are not."""
    if not (folder / "facts.json").exists():
        _write(replay(read_dataset(data), settings, size), folder)
    return _read(folder)


def _write(done: Replayed, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "warm.npz", done.warm)
    for index, (scored, learned) in enumerate(done.stream):
        _save(folder / f"learned-{index}.npz", learned)
        np.savez(folder / f"scored-{index}.npz", n_wanted=scored.n_wanted_R, user=scored.user_R)
        for place, (batch, wanted_RC) in enumerate(zip(scored.batches, scored.wanted, strict=True)):
            _save(folder / f"scored-{index}-{place}.npz", batch, wanted=wanted_RC)
    batches = [len(scored.batches) for scored, _ in done.stream]
    facts = {"spec": done.spec.to_json(), "texts": done.texts, "batches": batches}
    (folder / "facts.json").write_text(json.dumps(facts))


def _save(path: Path, examples: Examples, **more: NDArray[Any]) -> None:
    np.savez(path, **{field.name: getattr(examples, field.name) for field in fields(Examples)}, **more)


def _read(folder: Path) -> Replayed:
    facts = json.loads((folder / "facts.json").read_text())
    stream = []
    for index, count in enumerate(facts["batches"]):
        about = np.load(folder / f"scored-{index}.npz")
        parts = [np.load(folder / f"scored-{index}-{place}.npz") for place in range(count)]
        scored = Scored([_examples(p) for p in parts], [p["wanted"] for p in parts], about["n_wanted"], about["user"])
        stream.append((scored, _examples(np.load(folder / f"learned-{index}.npz"))))
    warm = _examples(np.load(folder / "warm.npz"))
    return Replayed(FeatureSpec.from_json(facts["spec"]), facts["texts"], warm, stream)


def _examples(arrays: Any) -> Examples:
    return Examples(**{field.name: arrays[field.name] for field in fields(Examples)})


# ---- running


def run(done: Replayed, learner: Learner, changed: Callable[[Examples, bool], Examples]) -> NDArray[np.float64]:
    """Learn and score through the whole stream: NDCG@10 of every scored request.

    Args:
        changed: what a batch becomes before it is seen; its second argument says whether it is learned from.
    """
    learner.learn(changed(done.warm, True))
    out = []
    for scored, learned in done.stream:
        seen = replace(scored, batches=[changed(batch, False) for batch in scored.batches])
        out.append(seen.ndcg(learner))
        if len(learned):
            learner.learn(changed(learned, True))
    return np.concatenate(out)


def users(done: Replayed) -> NDArray[np.str_]:
    """The user of every scored request."""
    return np.concatenate([scored.user_R for scored, _ in done.stream])


def learner_of(done: Replayed, settings: Settings, vectors: torch.Tensor | None) -> Learner:
    """A new learner over the log's texts; `vectors`: what the frozen encoder makes of them, to save it the work."""
    learner = Learner(settings, done.spec)
    if vectors is None:
        learner.add_texts(done.texts)
        return learner
    learner.texts, learner.text_NT = list(done.texts), vectors.clone()
    learner.stale_N = np.zeros(len(done.texts), bool)
    learner.task.grow(len(done.texts))
    return learner
