"""Each part of the ranking model left out once, over three seeds, against the whole model on the same requests.

    penstock import online-retail SOURCE --into A; penstock import movielens SOURCE --into B
    python benchmarks/ablation.py A B --cache DIR [--news] [--variants NAME ...]

Each log is replayed once (benchmarks/replayed.py says what the head sees of it) and kept in DIR, outside the
repository, beside the NDCG@10 of every request of every run: a run that is there is not done again. Texts are encoded
once, the encoder frozen, but for the variant that tunes it. A seed fixes the first weights, the order of the requests,
what is replayed and dropout. Writes benchmarks/results/ablation.json after every run, and prints the table.
"""

import argparse
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import measure
from penstock.data.dataset import read_dataset
from penstock.data.simulate import simulate_and_write
from penstock.features.examples import Examples
from penstock.metrics import bootstrap_mean, paired_bootstrap
from penstock.settings import Settings, load_settings
from replayed import Replayed, Size, learner_of, run, stored, users

WHOLE = "whole model"
SEEDS = (7, 8, 9)
BOOTSTRAP = (1000, 7, 0.95)
NEWS = {"items": 4000, "users": 600, "days": 6, "requests_per_day": 6000, "item_life_h": 6.0}
LISTS, SAMPLED = "lists", "sampled"
"""Kinds of logs: requests with the items that were shown, or with negatives that have to be drawn."""

COUNTS = r"popularity_|rate_|history_popularity"
NEARNESS = r"cooccurrence_|follows"
REPEATS = r"repeat_"
KIND_AND_AGE = r"category_|novelty_|history_size|since_last_event"


def _same(batch: Examples) -> Examples:
    return batch


@dataclass(frozen=True)
class Variant:
    """`hidden`: features set to zero. `seen` changes every batch, `learned` only those learned from. `replayed`:
    settings under which the log has to be replayed anew. `only`: the kind of log where it means something."""

    settings: dict[str, Any] = field(default_factory=dict)
    hidden: str | None = None
    seen: Callable[[Examples], Examples] = _same
    learned: Callable[[Examples], Examples] = _same
    texts: bool = True
    replayed: dict[str, Any] = field(default_factory=dict)
    only: str | None = None


def _no_past(batch: Examples) -> Examples:
    return replace(batch, past_mask_RL=np.zeros_like(batch.past_mask_RL))


def _equal_weight(batch: Examples) -> Examples:
    total_R = batch.gain_RC.sum(1, keepdims=True)
    return replace(batch, gain_RC=batch.gain_RC / np.maximum(total_R, 1e-9))


def _no_correction(batch: Examples) -> Examples:
    return replace(batch, offset_RC=np.zeros_like(batch.offset_RC))


def _no_position(batch: Examples) -> Examples:
    return replace(batch, position_RC=np.full_like(batch.position_RC, -1))


VARIANTS = {
    WHOLE: Variant(),
    "without counts and rates": Variant(hidden=COUNTS),
    "without co-occurrence and what follows what": Variant(hidden=NEARNESS),
    "without the user's own repeats": Variant(hidden=REPEATS),
    "without category, age and size of the history": Variant(hidden=KIND_AND_AGE),
    "without attention over the user's past": Variant(seen=_no_past),
    "without cross layers": Variant({"model.cross_layers": 0}),
    "without residuals of items": Variant({"training.residual_learning_rate": 0.0}),
    "without text vectors": Variant(texts=False),
    "without replay": Variant({"training.replay_share": 0.0}),
    "the last weights, not their mean": Variant({"training.averaging": 0.0}),
    "every request weighs the same": Variant(learned=_equal_weight),
    "without the correction for sampling (logQ)": Variant(learned=_no_correction, only=SAMPLED),
    "negatives drawn evenly only": Variant(replayed={"training.popular_negative_share": 0.0}, only=SAMPLED),
    "negatives drawn by popularity only": Variant(replayed={"training.popular_negative_share": 1.0}, only=SAMPLED),
    "without the bias of positions": Variant(learned=_no_position, only=LISTS),
    "encoder tuned (lora)": Variant({"text.tuning": "lora"}),
}


def runs_of(log: Path, cache: Path, names: list[str], size: Size) -> Iterator[dict[str, Any]]:
    """Run what `cache` does not hold; after each variant, all that is known of the log."""
    settings = load_settings().override({"text.tuning": "frozen", "state.home": str(cache / "home")})
    repeats = read_dataset(log).meta.repeats
    settings = settings.override({"data.repeats": repeats})
    done = stored(cache / log.name / "whole", log, settings, size)
    vectors = learner_of(done, settings, None).text_NT
    kind = LISTS if (done.warm.position_RC >= 0).any() else SAMPLED
    out = {}
    for name in names:
        variant = VARIANTS[name]
        if variant.only not in (None, kind):
            continue
        path = cache / log.name / f"{re.sub('[^a-z]+', '-', name.lower())}.npy"
        if not path.exists():
            other = done
            if variant.replayed:
                folder = cache / log.name / path.stem
                other = stored(folder, log, settings.override(variant.replayed), size)
            started = time.perf_counter()
            found = [_one(other, settings.override({"seed": seed}), variant, vectors) for seed in SEEDS]
            measure.note(f"{log.name}: {name}: {np.mean(found):.4f}, {time.perf_counter() - started:.0f} s")
            np.save(path, np.stack(found))
        out[name] = np.load(path)
        yield about(done, out)


def _one(done: Replayed, settings: Settings, variant: Variant, vectors: Any) -> NDArray[np.float64]:
    learner = learner_of(done, settings.override(variant.settings), vectors if variant.texts else vectors * 0)
    hidden_F = np.array([bool(variant.hidden and re.match(variant.hidden, name)) for name in done.spec.names])

    def changed(batch: Examples, learned: bool) -> Examples:
        if hidden_F.any():
            batch = replace(batch, feature_RCF=np.where(hidden_F, np.float32(0), batch.feature_RCF))
        batch = variant.seen(batch)
        return variant.learned(batch) if learned else batch

    return run(done, learner, changed)


def summary(found: dict[str, NDArray[np.float64]], user_R: NDArray[np.str_]) -> dict[str, Any]:
    """Each variant's NDCG@10, and its difference to the whole model with the interval over users."""
    rows = {}
    for name, ndcg_SR in found.items():
        mean, low, high = bootstrap_mean(ndcg_SR.mean(0), user_R, *BOOTSTRAP)
        rows[name] = {"ndcg@10": mean, "low": low, "high": high, "seeds": ndcg_SR.mean(1).tolist()}
        if name != WHOLE and WHOLE in found:
            whole_SR = found[WHOLE]
            mean, low, high = paired_bootstrap(ndcg_SR.mean(0), whole_SR.mean(0), user_R, *BOOTSTRAP)
            by_seed = (ndcg_SR - whole_SR).mean(1).tolist()
            rows[name] |= {"difference": {"mean": mean, "low": low, "high": high, "seeds": by_seed}}
    return rows


def about(done: Replayed, found: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """What a log held for the head, and the variants so far."""
    user_R = users(done)
    return {
        "scored_requests": len(user_R),
        "users": len(set(user_R.tolist())),
        "warm_up_requests": len(done.warm),
        "windows": len(done.stream),
        "learned_requests": sum(len(learned) for _, learned in done.stream),
        "variants": summary(found, user_R),
    }


def main() -> None:
    """One log after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="*", help="folders that penstock import wrote")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--news", action="store_true", help="also a simulated news site, items living for hours")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--frozen", action="store_true", help="leave out the variant that tunes the encoder")
    parser.add_argument("--windows", type=int, default=Size.windows)
    parser.add_argument("--warm", type=int, default=Size.warm)
    parser.add_argument("--learned", type=int, default=Size.learned)
    parser.add_argument("--scored", type=int, default=Size.scored)
    options = parser.parse_args()
    size = Size(options.windows, options.warm, options.learned, options.scored)
    logs = list(options.data)
    if options.news:
        logs.append(options.cache / "simulated-news")
        if not logs[-1].exists():
            settings = load_settings().override({f"simulate.{key}": value for key, value in NEWS.items()})
            simulate_and_write(settings.simulate, settings.seed, logs[-1])
    tuned = [name for name, variant in VARIANTS.items() if "text.tuning" in variant.settings]
    names = [WHOLE, *(name for name in options.variants if name != WHOLE and not (options.frozen and name in tuned))]
    found: dict[str, Any] = {}
    for log in logs:
        for known in runs_of(log, options.cache, names, size):
            found[log.name] = known
            measure.save("ablation", {"seeds": list(SEEDS), "logs": found})


if __name__ == "__main__":
    main()
