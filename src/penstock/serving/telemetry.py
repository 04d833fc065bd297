"""Prometheus figures of one app; each app has its own registry, so that two in one process do not collide."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from penstock.serving.runtime import Runtime

LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)


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

    def observe_request(self, route: str, status: int, elapsed_s: float) -> None:
        """Count one answer. `route` is the path's template, never the path itself: labels must stay few."""
        self.requests.labels(route, str(status)).inc()
        self.latency_s.labels(route).observe(elapsed_s)

    def expose(self, runtime: Runtime) -> bytes:
        """The text that Prometheus reads."""
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
        return generate_latest(self.registry)
