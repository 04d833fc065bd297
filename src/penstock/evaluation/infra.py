"""What a fresh process found when it loaded a bundle and answered with it, as a gate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.records import GateResult


@dataclass(frozen=True)
class InfraVerdict:
    """See serving.infra_check.check; `digest`: of the bundle that was loaded, None where none came up."""

    digest: str | None
    faults: tuple[str, ...]
    answers: int = 0
    median_ms: float = math.nan
    slowest_ms: float = math.nan
    load_s: float = math.nan

    @classmethod
    def failed(cls, fault: str) -> "InfraVerdict":
        """The check itself came to nothing."""
        return cls(None, (fault,))

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> "InfraVerdict":
        """From the JSON of the process.

        Raises:
            KeyError, TypeError: it is none.
        """
        faults = tuple(str(fault) for fault in tree["faults"])
        if tree["digest"] is None and faults:
            return cls(None, faults)
        figures = (float(tree[name]) for name in ("median_ms", "slowest_ms", "load_s"))
        return cls(str(tree["digest"]), faults, int(tree["answers"]), *figures)


def infra_gate(verdict: InfraVerdict | None, digest: str, max_latency_ms: float) -> GateResult:
    """Refuses unless a fresh process loaded this very bundle, answered everybody, and was fast enough."""
    faults = ["the bundle was not loaded in a fresh process"] if verdict is None else list(verdict.faults)
    if verdict is not None and not faults:
        if verdict.digest != digest:
            faults.append(f"stale: bundle {str(verdict.digest)[:12]} was loaded, {digest[:12]} is judged")
        if verdict.answers < 1:
            faults.append("no request was answered")
        if not verdict.median_ms <= max_latency_ms:
            faults.append(f"median {verdict.median_ms:.1f} ms an answer, at most {max_latency_ms:g} ms are allowed")
    detail = "; ".join(faults)
    if verdict is not None and not faults:
        detail = (
            f"a fresh process verified and loaded it in {verdict.load_s:.1f} s and gave {verdict.answers} answers as "
            f"the service does, median {verdict.median_ms:.1f} ms, slowest {verdict.slowest_ms:.1f} ms"
        )
    return GateResult("infra", "faults", "all", "<=", 0.0, float(len(faults)), None, None, not faults, detail)
