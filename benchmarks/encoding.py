"""Texts encoded per second on a CPU: penstock's two graphs, onnxruntime's tools and sentence-transformers.

    python benchmarks/encoding.py [--titles 384] [--long 128] [--single 64]

Simulated titles of 12 tokens, descriptions of 57, and titles one at a time, as queries come. The methods take turns in
every repeat. sentence-transformers sorts by length itself and gets the quickest of four batch sizes for each row;
its own onnx backend needs the package optimum, which penstock does not install. What int8 costs in quality is measured
on an encoder that has learned from a round: cosine and nearest titles to float32, and NDCG@10 of the requests that came
next with every item's vector made from the int8 text vectors. With PENSTOCK_BENCH_CLOCK=cpu only one thread is timed.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import measure
from penstock.export.int8 import quantised
from penstock.export.rank import item_vectors, text_graph, torch_scores
from penstock.inference.engine import TextEngine
from penstock.model.text_encoder import encoder_folder, tokenizer_of
from penstock.training.learner import Learner
from workload import Workload, make_settings, make_workload, ndcg

BATCHES = (8, 16, 32, 64)
THREADS = (1, 2) if measure.CLOCK == "wall" else (1,)
NEAREST = 10
Encode = Callable[[list[str]], np.ndarray]


def fused(graph: bytes) -> bytes:
    """What onnxruntime's transformer optimizer makes of the graph."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    model = optimize_model(onnx.load_from_string(graph), "bert", 12, 384, FusionOptions("bert"), opt_level=0)
    return bytes(model.model.SerializeToString())


def dynamic(graph: bytes, folder: Path) -> bytes:
    """What onnxruntime's own quantizer makes of it: 7-bit weights by column, what meets them by whole batches."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load_from_string(graph)
    quantize_dynamic(model, folder / "q.onnx", per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    return (folder / "q.onnx").read_bytes()


def sentence_transformers(groups: dict[str, list[str]], threads: int) -> dict[str, tuple[int, Encode]]:
    """For each group of texts the quickest batch size, and the encoder that uses it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder_folder("minilm")), device="cpu")
    model.max_seq_length = 64
    made = {}
    for name, texts in groups.items():
        encoders = {size: _with_batch(model, size, threads) for size in BATCHES}
        some = texts[: len(texts) // 2]
        taken = {size: _warm(encode, some) for size, encode in encoders.items()}
        best = min(taken, key=taken.__getitem__)
        made[name] = best, encoders[best]
    return made


def _warm(encode: Encode, texts: list[str]) -> float:
    return measure.repeated(lambda: encode(texts), 1)[0]


def _with_batch(model: Any, size: int, threads: int) -> Encode:
    def encode(texts: list[str]) -> np.ndarray:
        torch.set_num_threads(threads)
        return np.asarray(model.encode(texts, batch_size=size, show_progress_bar=False))

    return encode


def rates(groups: dict[str, list[str]], graphs: dict[str, bytes], tokenizer: str, threads: int) -> dict[str, Any]:
    """Texts per second of each method on each group, the methods taking turns; median of five."""
    rival = sentence_transformers(groups, threads)
    engines = {name: TextEngine(graph, tokenizer, "cpu", threads) for name, graph in graphs.items()}
    found: dict[str, Any] = {}
    for group, texts in groups.items():
        methods: dict[str, Encode] = {"sentence-transformers": rival[group][1]}
        methods |= {name: lambda some, e=engine: e.encode(some)[0] for name, engine in engines.items()}
        parts = [[text] for text in texts] if group == "single" else [texts]
        taken: dict[str, list[float]] = {name: [] for name in methods}
        for repeat in range(measure.REPEATS + 1):
            for name, encode in methods.items():
                second = measure.seconds(lambda e=encode, p=parts: [e(part) for part in p])
                if repeat:
                    taken[name].append(second)
        rate = {name: len(texts) / measure.median(values) for name, values in taken.items()}
        found[group] = {"batch": rival[group][0], "texts_per_s": rate, "seconds": taken}
        measure.note(f"{threads} threads, {group}: { {name: round(value, 1) for name, value in rate.items()} }")
    return found


def quality(vector_NT: np.ndarray, reference_NT: np.ndarray) -> dict[str, float]:
    """Cosine to the reference, and how many of a text's nearest are the same."""
    cosine_N = (vector_NT * reference_NT).sum(1)
    own, true = (_nearest(vectors) for vectors in (vector_NT, reference_NT))
    shared = [len(set(a) & set(b)) / NEAREST for a, b in zip(own.tolist(), true.tolist(), strict=True)]
    return {
        "mean_cosine": float(cosine_N.mean()),
        "min_cosine": float(cosine_N.min()),
        "top10_overlap": float(np.mean(shared)),
    }


def _nearest(vector_NT: np.ndarray) -> np.ndarray:
    cosine_NN = vector_NT @ vector_NT.T
    np.fill_diagonal(cosine_NN, -np.inf)
    return np.argsort(-cosine_NN, axis=1, kind="stable")[:, :NEAREST]


def rankings(learner: Learner, work: Workload, texts: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """NDCG@10 with items' vectors from these text vectors: as learned, and as if every item were new."""
    model = learner.task.model
    found: dict[str, dict[str, float]] = {name: {} for name in texts}
    for kind in ("learned", "all new"):
        if kind == "all new":
            model.residual.data.zero_()
        for name, text_NT in texts.items():
            vector_NE = item_vectors(model, torch.from_numpy(text_NT))
            found[name][kind] = ndcg(torch_scores(model, vector_NE, work.following), work.following)
    return found


def measured_quality(work: Workload, learner: Learner, folder: Path) -> dict[str, Any]:
    """Each method's vectors of the catalogue against float32's, after a round of learning."""
    settings = work.settings.override({"export.text_precision": "float32"})
    graph = text_graph(learner.encoder, learner.task.model.item.projection, settings, folder / "graphs")
    tokenizer = tokenizer_of(settings.text).to_str()
    graphs = {"float32": graph, "quantize_dynamic": dynamic(graph, folder), "int8": quantised(graph)}
    texts = {name: TextEngine(made, tokenizer, "cpu").encode(work.texts)[0] for name, made in graphs.items()}
    ranked = rankings(learner, work, texts)
    return {name: {**quality(texts[name], texts["float32"]), "ndcg@10": ranked[name]} for name in graphs}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=int, default=384)
    parser.add_argument("--long", type=int, default=128)
    parser.add_argument("--single", type=int, default=64)
    options = parser.parse_args()
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        work = make_workload(make_settings(folder), 4000, 1500)
        learner = Learner(work.settings, work.spec)
        learner.add_texts(work.texts)
        titles = work.texts
        long = [
            ". ".join(titles[(row * 7 + 13 * step) % len(titles)] for step in range(5)) for row in range(options.long)
        ]
        groups = {"titles": titles[: options.titles], "long": long, "single": titles[-options.single :]}
        settings = work.settings.override({"export.text_precision": "float32"})
        tokenizer = tokenizer_of(settings.text)
        graph = text_graph(learner.encoder, learner.task.model.item.projection, settings, folder / "graphs")
        graphs = {
            "float32": graph, "fused": fused(graph), "quantize_dynamic": dynamic(graph, folder),
            "int8": quantised(graph),
        }  # fmt: skip
        figures: dict[str, Any] = {
            "texts": {name: len(texts) for name, texts in groups.items()},
            "tokens": {
                name: float(np.mean([len(row.ids) for row in tokenizer.encode_batch(texts)]))
                for name, texts in groups.items()
            },
            "graph_mb": {name: len(made) / 2**20 for name, made in graphs.items()},
            "quantise_s": measure.repeated(lambda: quantised(graph)),
            "threads": {str(count): rates(groups, graphs, tokenizer.to_str(), count) for count in THREADS},
        }
        torch.set_num_threads(THREADS[-1])
        learner.learn(work.learned)
        figures["scored_requests"] = len(work.following)
        figures["quality"] = measured_quality(work, learner, folder)
    measure.save("encoding", figures)


if __name__ == "__main__":
    main()
