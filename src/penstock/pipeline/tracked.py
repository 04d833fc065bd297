"""What a round leaves in the tracking store: its parameters, every step of its loss, its scores and its times."""

from typing import TYPE_CHECKING

from penstock.registry.store import Registry
from penstock.registry.tracking import RoundTracker
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.pipeline.online import Trained


def track(settings: Settings, registry: Registry, trained: "Trained") -> str:
    """Write one round's run; returns its id."""
    with RoundTracker(settings, trained.lineage.round_id, registry.backend) as tracker:
        tracker.params({"task": settings.task, "training": settings.training.model_dump(mode="json")})
        for step, loss, rate, norm in trained.report.curve:
            tracker.metric("loss", loss, step)
            tracker.metric("learning_rate", rate, step)
            tracker.metric("gradient_norm", norm, step)
        last = trained.report.curve[-1][0] if trained.report.curve else 0
        per_s = len(trained.report.curve) and trained.report.requests / max(trained.report.seconds, 1e-9)
        tracker.metric("examples_per_s", float(per_s), last)
        for name, value in trained.metrics.items():
            if value == value:
                tracker.metric("mean_loss" if name == "loss" else name, value, last)  # "loss" is the curve
        for name, seconds in trained.stages_s.items():
            tracker.metric(f"seconds_{name.replace(' ', '_')}", seconds, last)
        return tracker.run_id
