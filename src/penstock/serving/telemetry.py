"""Prometheus figures of one app; each app has its own registry, so that two in one process do not collide."""

import threading
from collections import Counter as tally
from collections import deque
from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from penstock.serving.candidates import Candidates
from penstock.serving.freshness import freshness_stages
from penstock.serving.rollout import Rollouts
from penstock.serving.runtime import Runtime, Served

LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
MAX_VERSIONS = 5


class Telemetry:
    """Counters that the routes move, and gauges read from the runtime when somebody asks."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("penstock_requests", "HTTP requests", ("route", "status"), registry=own)
        self.latency_s = Histogram(
            "penstock_request_seconds", "Time to answer", ("route",), buckets=LATENCY_BUCKETS_S, registry=own
        )
        self.refused = Counter("penstock_refused", "Requests turned away at the door", ("reason",), registry=own)
        self.events = Counter("penstock_events", "Events received, by what became of them", ("outcome",), registry=own)
        self.answers_dropped = Gauge(
            "penstock_answers_dropped", "Answers that can never be explained: the queue was full", registry=own
        )
        self.recommended = Counter("penstock_recommended_items", "Items recommended", ("source",), registry=own)
        self.swaps = Gauge("penstock_swaps", "Exchanges of the served version", ("outcome",), registry=own)
        self.served = Gauge("penstock_served_version_info", "The served version", ("version", "digest"), registry=own)
        self.served_age_s = Gauge("penstock_served_age_seconds", "Since the served version was loaded", registry=own)
        self.learned_age_s = Gauge("penstock_learned_age_seconds", "Since the newest event learned from", registry=own)
        self.pending = Gauge("penstock_events_pending", "Accepted events that no snapshot holds yet", registry=own)

        self.stage_s = Histogram(
            "penstock_stage_seconds", "Time of the stages of a recommendation", ("stage",), buckets=STAGE_BUCKETS_S,
            registry=own,
        )  # fmt: skip
        self.candidates = Counter(
            "penstock_candidates", "Candidates, by where they came from", ("source",), registry=own
        )
        self.answers = Counter(
            "penstock_version_answers", "Recommendations, by who made them", ("version",), registry=own
        )
        self.freshness_s = Gauge(
            "penstock_freshness_seconds", "An event's way to what serves, by the stage that ends",
            ("stage",), registry=own,
        )  # fmt: skip
        self.rollout = Gauge(
            "penstock_rollout_info", "The rollout that runs: 1", ("mode", "version", "champion"), registry=own
        )
        self.rollout_answers = Gauge(
            "penstock_rollout_answers", "Answers to the users of rollouts, by arm", ("arm", "outcome"), registry=own
        )
        # Looking a label up costs more than counting: what every request moves is looked up once.
        self._request_of, self._latency_of = cache(self.requests.labels), cache(self.latency_s.labels)
        self._stage_of, self._candidates_of = cache(self.stage_s.labels), cache(self.candidates.labels)
        self._recommended_of = cache(self.recommended.labels)
        self._versions: deque[str] = deque()
        self._lock = threading.Lock()
        self._fresh: tuple[tuple[str, datetime], dict[str, float]] | None = None

    def observe_stage(self, stage: str, elapsed_s: float, result: object) -> None:
        """Time one stage of a recommendation; see features.staged."""
        self._stage_of(stage).observe(elapsed_s)
        if isinstance(result, Candidates):
            for source, count in tally(result.source_C).items():
                self._candidates_of(source).inc(count)

    def count_answer(self, version: str, sources: list[str]) -> None:
        """Count a recommendation and where its items came from; only the newest few versions are kept as labels."""
        for source, count in tally(sources).items():
            self._recommended_of(source).inc(count)
        with self._lock:
            if version not in self._versions:
                self._versions.append(version)
                if len(self._versions) > MAX_VERSIONS:
                    self.answers.remove(self._versions.popleft())
            self.answers.labels(version).inc()

    def observe_request(self, route: str, status: int, elapsed_s: float) -> None:
        """Count one answer. `route` is the path's template, never the path itself: labels must stay few."""
        self._request_of(route, str(status)).inc()
        self._latency_of(route).observe(elapsed_s)

    def expose(self, runtime: Runtime, rollouts: Rollouts) -> bytes:
        """The text that Prometheus reads."""
        self._read_rollout(rollouts)
        counts, served = runtime.counts, runtime.served
        self.swaps.labels("swapped").set(counts.swapped)
        self.swaps.labels("failed").set(counts.failed)
        self.swaps.labels("poll_error").set(counts.poll_errors)
        self.pending.set(runtime.journal.pending())
        self.served.clear()
        if served is not None:
            now = runtime.clock()
            self.served.labels(served.version, served.digest).set(1)
            self.served_age_s.set((now - served.loaded_at).total_seconds())
            learned = datetime.fromisoformat(served.scorer.learned_until)
            self.learned_age_s.set((now - learned.replace(tzinfo=learned.tzinfo or now.tzinfo)).total_seconds())
            self._read_freshness(runtime, served, rollouts.environment)
        return generate_latest(self.registry)

    def _read_freshness(self, runtime: Runtime, served: Served, environment: str) -> None:
        """Looked up once for each version that serves; it stays what it was."""
        if runtime.state is None:
            return
        key = (served.version, served.loaded_at)
        if self._fresh is None or self._fresh[0] != key:
            found = freshness_stages(runtime.state, environment, served.version, served.loaded_at)
            if not found:
                return
            self._fresh = (key, found)
        self.freshness_s.clear()
        for stage, stage_s in self._fresh[1].items():
            self.freshness_s.labels(stage).set(stage_s)

    def _read_rollout(self, rollouts: Rollouts) -> None:
        self.rollout.clear()
        if (active := rollouts.active) is not None:
            self.rollout.labels(active.mode, active.number, active.champion).set(1)
        for (arm, outcome), count in list(rollouts.counts.items()):
            self.rollout_answers.labels(arm, outcome).set(count)
