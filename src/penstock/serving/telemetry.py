"""Prometheus figures of one app; each app has its own registry, so that two in one process do not collide.

Where several processes are one service, each keeps what it counts in files of the folder that FIGURES names, and
whichever is asked adds them up (prometheus_client's multiprocess mode). What is read from the runtime, such as the age
of the served version, is as it is where it is asked.
"""

import os
from collections import Counter as tally
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from penstock.serving.candidates import Candidates
from penstock.serving.freshness import freshness_stages
from penstock.serving.rollout import Rollouts
from penstock.serving.runtime import Runtime
from penstock.serving.served import Served

LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
MAX_VERSIONS = 5
FIGURES = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable; set before prometheus_client is imported."""


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
            "penstock_answers_dropped", "Answers that can never be explained: the queue was full", registry=own,
            multiprocess_mode="sum",
        )  # fmt: skip
        self.recommended = Counter("penstock_recommended_items", "Items recommended", ("source",), registry=own)
        self.swaps = Gauge(
            "penstock_swaps", "Exchanges of the served version", ("outcome",), registry=own, multiprocess_mode="sum"
        )
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
        self.rollout_answers = Gauge(
            "penstock_rollout_answers", "Answers to the users of rollouts, by arm", ("arm", "outcome"), registry=own,
            multiprocess_mode="sum",
        )  # fmt: skip
        # Looking a label up costs more than counting: what every request moves is looked up once.
        self._request_of, self._latency_of = cache(self.requests.labels), cache(self.latency_s.labels)
        self._stage_of, self._candidates_of = cache(self.stage_s.labels), cache(self.candidates.labels)
        self._recommended_of = cache(self.recommended.labels)
        self._versions: deque[str] = deque(maxlen=MAX_VERSIONS)
        self._answers_of = cache(self.answers.labels)
        self._fresh: tuple[tuple[str, datetime], dict[str, float]] | None = None

    def observe_stage(self, stage: str, elapsed_s: float, result: object) -> None:
        """Time one stage of a recommendation; see features.staged."""
        self._stage_of(stage).observe(elapsed_s)
        if isinstance(result, Candidates):
            for source, count in tally(result.source_C).items():
                self._candidates_of(source).inc(count)

    def count_answer(self, version: str, sources: list[str]) -> None:
        """Count a recommendation and where its items came from."""
        for source, count in tally(sources).items():
            self._recommended_of(source).inc(count)
        if version not in self._versions:
            self._versions.append(version)
        self._answers_of(version).inc()

    def observe_request(self, route: str, status: int, elapsed_s: float) -> None:
        """Count one answer. `route` is the path's template, never the path itself: labels must stay few."""
        self._request_of(route, str(status)).inc()
        self._latency_of(route).observe(elapsed_s)

    def note(self, runtime: Runtime, rollouts: Rollouts, dropped: int) -> None:
        """Set what is counted elsewhere in this process; with several, so often that none lags behind."""
        counts = runtime.counts
        self.swaps.labels("swapped").set(counts.swapped)
        self.swaps.labels("failed").set(counts.failed)
        self.swaps.labels("poll_error").set(counts.poll_errors)
        self.answers_dropped.set(dropped)
        for (arm, outcome), count in list(rollouts.counts.items()):
            self.rollout_answers.labels(arm, outcome).set(count)

    def expose(self, runtime: Runtime, rollouts: Rollouts) -> bytes:
        """The text that Prometheus reads."""
        registry: Any = self.registry
        if FIGURES in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        known = {*self._versions, *([] if runtime.served is None else [runtime.served.version])}
        now = list(self._as_it_is(runtime, rollouts))
        return generate_latest(_Shown([*_of_versions(registry.collect(), known), *now]))

    def _as_it_is(self, runtime: Runtime, rollouts: Rollouts) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "penstock_events_pending", "Accepted events that no snapshot holds yet", runtime.journal.pending()
        )
        rollout = GaugeMetricFamily(
            "penstock_rollout_info", "The rollout that runs: 1", labels=("mode", "version", "champion")
        )
        if (active := rollouts.active) is not None:
            rollout.add_metric((active.mode, active.number, active.champion), 1)
        yield rollout
        served = runtime.served
        if served is None:
            return
        now = runtime.clock()
        version = GaugeMetricFamily("penstock_served_version_info", "The served version", labels=("version", "digest"))
        version.add_metric((served.version, served.digest), 1)
        yield version
        age_s = (now - served.loaded_at).total_seconds()
        yield GaugeMetricFamily("penstock_served_age_seconds", "Since the served version was loaded", age_s)
        learned = datetime.fromisoformat(served.scorer.learned_until)
        learned_age_s = (now - learned.replace(tzinfo=learned.tzinfo or now.tzinfo)).total_seconds()
        yield GaugeMetricFamily("penstock_learned_age_seconds", "Since the newest event learned from", learned_age_s)
        stages = GaugeMetricFamily(
            "penstock_freshness_seconds", "An event's way to what serves, by the stage that ends", labels=("stage",)
        )
        for stage, stage_s in self._freshness(runtime, served, rollouts.environment).items():
            stages.add_metric((stage,), stage_s)
        yield stages

    def _freshness(self, runtime: Runtime, served: Served, environment: str) -> dict[str, float]:
        """Looked up once for each version that serves; it stays what it was."""
        if runtime.state is None:
            return {}
        key = (served.version, served.loaded_at)
        if self._fresh is None or self._fresh[0] != key:
            found = freshness_stages(runtime.state, environment, served.version, served.loaded_at)
            if not found:
                return {}
            self._fresh = (key, found)
        return self._fresh[1]


class _Shown(CollectorRegistry):
    """Metrics that were collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._metrics


def _of_versions(metrics: Iterator[Metric], known: set[str]) -> Iterator[Metric]:
    """The metrics, without the labels of versions that are long gone: labels must stay few."""
    for metric in metrics:
        metric.samples = [one for one in metric.samples if one.labels.get("version", "") in known | {""}]
        yield metric
