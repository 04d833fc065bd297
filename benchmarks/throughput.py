"""Requests learned from per second, against three other ways to learn from the same requests.

    python benchmarks/throughput.py [--requests 4000] [--chunk 32] [--following 600]

Ours learns from a whole round, as `params.yaml` says: replay, one encoder step, and the vectors of what was learned
from brought up to date; making the features is counted too. The rivals take minutes to hours for a round, so each is
timed on chunks of it, median of five, and stated per request. All are scored on the requests that came next: the
rivals and ours after the same few requests, and ours after the round.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import measure
from penstock.export.rank import item_vectors, torch_scores
from penstock.training.learner import Learner
from rivals import Article, Rival, SentencePairs, Slots
from workload import Workload, make_settings, make_workload, ndcg


def our_scores(learner: Learner, work: Workload) -> np.ndarray:
    """Of the requests that follow."""
    model = learner.task.model
    return torch_scores(model, item_vectors(model, learner.text_NT), work.following)


def ours(work: Workload) -> dict[str, Any]:
    """A first round, scored; then five more of the same size, timed: replay is at work in those."""
    learner = Learner(work.settings, work.spec)
    encode_s = measure.seconds(lambda: learner.add_texts(work.texts))
    first_s = measure.seconds(lambda: learner.learn(work.learned))
    quality = ndcg(our_scores(learner, work), work.following)
    learn_s = [measure.seconds(lambda: learner.learn(work.learned)) for _ in range(measure.REPEATS)]
    report = learner.last_report
    round_s = measure.median(learn_s) + work.feature_s
    count = len(work.learned)
    return {
        "requests": count,
        "encode_catalogue_once_s": encode_s,
        "first_round_s": first_s,
        "learn_s": learn_s,
        "of_it_encoder_s": report.text_seconds,
        "features_s": work.feature_s,
        "requests_per_s": count / round_s,
        "requests_per_s_without_features": count / measure.median(learn_s),
        "ndcg@10": quality,
        "peak_gb": measure.peak_gb(),
    }


def rival(method: Rival, work: Workload, chunk: int) -> dict[str, Any]:
    """One chunk that is not counted, then five."""
    chunk_s = []
    for index in range(measure.REPEATS + 1):
        part = work.learned.take(slice(index * chunk, (index + 1) * chunk))
        chunk_s.append(measure.seconds(lambda part=part: method.learn(part)))
    learned = chunk * len(chunk_s)
    return {
        "chunk_requests": chunk,
        "chunk_s": chunk_s[1:],
        "requests_per_s": chunk / measure.median(chunk_s[1:]),
        "learned_requests": learned,
        "ndcg@10": ndcg(method.scores(work.following), work.following),
    }


def ours_after(work: Workload, requests: int) -> float:
    """NDCG@10 of ours after as few requests as a rival had."""
    learner = Learner(work.settings, work.spec)
    learner.add_texts(work.texts)
    learner.learn(work.learned.take(slice(0, requests)))
    return ndcg(our_scores(learner, work), work.following)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--chunk", type=int, default=32, help="requests of a rival's chunk")
    parser.add_argument("--following", type=int, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        work = make_workload(make_settings(Path(home)), options.requests, options.following)
        measure.note(f"workload: {len(work.learned)} requests, {len(set(work.texts))} titles")
        figures: dict[str, Any] = {
            "titles": len(set(work.texts)),
            "scored_requests": len(work.following),
            "ours": ours(work),
        }
        random = np.random.default_rng(0).random(work.following.row_RC.shape)
        figures["random_ndcg@10"] = ndcg(random, work.following)
        chunks = {"article": options.chunk // 2, "slots": options.chunk, "sentence-transformers": options.chunk * 2}
        methods = (Article, lambda texts: Slots(texts, work.settings), SentencePairs)
        for make in methods:
            method = make(work.texts)
            measure.note(method.name)
            found = rival(method, work, chunks[method.name])
            found["ours_is_faster_by"] = figures["ours"]["requests_per_s"] / found["requests_per_s"]
            found["ours_ndcg@10_after_as_many"] = ours_after(work, found["learned_requests"])
            figures[method.name] = found
    measure.save("throughput", figures)


if __name__ == "__main__":
    main()
