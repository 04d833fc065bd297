"""A bundle brought up in a process of its own and asked as the service asks it, before anybody may bless it.

    python -m penstock.serving.infra_check

reads one line of JSON (folder, digest, k, candidates, users) from its input and writes one with what it found. It goes
through the runtime's own swap: verify the manifest, compare the digest, load, warm; then it answers real users, one
that nobody knows and one without a name. Whoever starts it decides how long it may take.
"""

import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from penstock.errors import PenstockError, StateError
from penstock.inference.scorer import Scorer, UserContext
from penstock.records import EVENT_COLUMNS
from penstock.serving.candidates import Allowed, find_candidates
from penstock.serving.ports import ScorerLike
from penstock.serving.runtime import Runtime

NOBODY = "a user whom nobody has seen"
TEXTS = ("warm up", "a text that nobody has sent", "?")
UNWANTED = ("torch", "transformers", "peft")
REPEATS = 3


@dataclass(frozen=True)
class OneVersion:
    """A registry that points at the bundle."""

    folder: Path
    digest: str

    def champion_pointer(self) -> tuple[str, str, Path] | None:
        """The bundle, as version "check"."""
        return "check", self.digest, self.folder


class NoEvents:
    """A journal in which nothing happened; who is asked for is named as in the bundle."""

    def name_of(self, user_id: str) -> str:
        """The same."""
        return user_id

    def read(self, since_seq: int, limit: int) -> pl.DataFrame:
        """No events."""
        return pl.DataFrame(schema={"seq": pl.Int64(), **EVENT_COLUMNS})

    def append(self, events: list[dict[str, Any]], now: datetime) -> Any:
        """Refused: what is asked here is no behaviour.

        Raises:
            StateError: always.
        """
        raise StateError(f"the check of a bundle accepts no events, found {len(events)}; this is a fault of the check")

    def pending(self) -> int:
        """None."""
        return 0


def check(request: dict[str, Any]) -> dict[str, Any]:
    """What a service would meet with this bundle.

    Args:
        request: folder, digest, k, candidates (service.candidates), users (how many known users to ask for).

    Returns:
        digest, faults (sentences; none where the bundle can serve), answers, median_ms, slowest_ms, load_s.
    """
    started = time.perf_counter()
    runtime = Runtime(OneVersion(Path(request["folder"]), request["digest"]), NoEvents(), Scorer.load, 1.0, None, None)
    runtime.poll()
    if runtime.failure is not None or runtime.served is None:
        error = runtime.failure.error if runtime.failure else runtime.poll_error
        return {"digest": None, "faults": [f"the bundle does not come up: {error}"]}
    load_s = time.perf_counter() - started
    scorer = runtime.served.scorer
    faults: list[str] = []
    ask = _labelled if scorer.task == "classify" else _recommended
    taken_ms = ask(scorer, request, faults)
    found = [name for name in UNWANTED if name in sys.modules]
    if found:
        faults.append(f"serving imported {', '.join(found)}, which the service does not install")
    return {
        "digest": scorer.digest,
        "faults": faults,
        "answers": len(taken_ms),
        "median_ms": float(np.median(taken_ms)),
        "slowest_ms": max(taken_ms),
        "load_s": load_s,
    }


def _recommended(scorer: ScorerLike, request: dict[str, Any], faults: list[str]) -> list[float]:
    """Milliseconds of each answer."""
    known = [UserContext(user_id=user) for user in scorer.state.histories.users()[-int(request["users"]) :]]
    taken_ms = []
    for user in [*known, UserContext(user_id=NOBODY), UserContext(history=())]:
        name = user.user_id or "a request without a user"
        for _ in range(REPEATS):
            started, now = time.perf_counter(), datetime.now(UTC)
            allowed = Allowed(scorer.state, now.timestamp())
            found = find_candidates(scorer, user, now, int(request["candidates"]), allowed)
            names = [scorer.state.items[row] for row in found.row_C]
            ranked = scorer.rank(user, names, now, int(request["k"])) if names else []
            taken_ms.append((time.perf_counter() - started) * 1e3)
        wanted = min(int(request["k"]), len(found))
        if wanted == 0:
            faults.append(f"{name}: no item to recommend")
        if len({one.item_id for one in ranked}) != wanted:
            faults.append(f"{name}: {len(ranked)} items, expected {wanted} different ones")
        score_K = np.array([one.score for one in ranked], np.float64)
        if not np.isfinite(score_K).all():
            faults.append(f"{name}: {np.count_nonzero(~np.isfinite(score_K))} of {len(score_K)} scores are not finite")
        elif (np.diff(score_K) > 0).any():
            faults.append(f"{name}: the items are not in the order of their scores")
    return taken_ms


def _labelled(scorer: ScorerLike, request: dict[str, Any], faults: list[str]) -> list[float]:
    """Milliseconds of each answer."""
    taken_ms = []
    for text in TEXTS * REPEATS:
        started = time.perf_counter()
        probability_BK = scorer.classify([text])
        taken_ms.append((time.perf_counter() - started) * 1e3)
        total = float(probability_BK.sum())
        if probability_BK.shape != (1, len(scorer.labels)) or not abs(total - 1) < 1e-3:
            faults.append(
                f"text {text!r}: {probability_BK.shape[-1]} probabilities that add up to {total:.4f}, expected "
                f"{len(scorer.labels)} that add up to 1"
            )
    return taken_ms


def main() -> None:
    """Answer the one line of input; without one, end."""
    line = sys.stdin.readline()
    if not line:
        return
    try:
        found = check(json.loads(line))
    except PenstockError as error:
        found = {"digest": None, "faults": [f"{type(error).__name__}: {error}"]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
