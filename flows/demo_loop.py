"""What the steps of the demo share: what is left to play, and rounds, approvals and answers through the real way."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import polars as pl

from flows.demo_data import named_by
from flows.show import Show, outcome
from penstock.data.dataset import Dataset
from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.errors import PenstockError
from penstock.pipeline.compare import Comparison, WindowComparison
from penstock.records import AT, RoundResult
from penstock.registry.store import open_registry
from penstock.serving.decisions import Decisions
from penstock.settings import PREFIX, Settings

ASK_S = 60.0
PERSON = "the demo's operator"


@contextmanager
def overridden(values: Mapping[str, str]) -> Iterator[None]:
    """Settings overridden through the environment, as a person would, so that flows and service see the same."""
    names = {PREFIX + name: value for name, value in values.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class DemoFailed(PenstockError):
    """A step did not show what it claims."""


def as_accepted(events: pl.DataFrame) -> pl.DataFrame:
    """Events as the journal takes them now: freshness counts from here, not from when the log was made."""
    return events.with_columns(pl.lit(datetime.now(UTC)).cast(AT).alias("received_at"))


@dataclass
class Demo:
    """What the steps share. `windows`: what is still to happen; `compared`: fresh and stale, round by round."""

    show: Show
    settings: Settings
    data: Dataset
    truth: pl.DataFrame | None
    warm_up: pl.DataFrame
    windows: list[pl.DataFrame]
    rounds: list[tuple[str, RoundResult, int]] = field(default_factory=list)
    compared: list[WindowComparison] = field(default_factory=list)
    comparison: Comparison | None = None
    service: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.state = open_state(self.settings.state.url)
        self.state.ensure()
        self.registry = open_registry(self.settings, self.state)
        self.journal = Journal(self.state, self.settings.data)

    @property
    def address(self) -> str:
        """Of the service."""
        return f"http://{self.settings.service.host}:{self.settings.service.port}"

    def round(self, label: str, events: pl.DataFrame) -> RoundResult:
        """Accept events and run one round on them."""
        from flows.online_round import online_round

        accepted = self.journal.append(as_accepted(events), datetime.now(UTC))
        with self.show.working(label):
            state = online_round(return_state=True)
            result = state.result(raise_on_failure=False)
        if not isinstance(result, RoundResult):
            raise DemoFailed(f"{label}: {accepted.accepted} events, the round ended {state.name}: {state.message}")
        self.rounds.append((label, result, accepted.accepted))
        version = f"version {result.version} " if result.version else ""
        seconds = f" in {sum(result.stages_s.values()):.1f} s" if result.stages_s else ""
        self.show.line(f"{label}: {accepted.accepted} events, {version}{outcome(result.outcome)}{seconds}")
        return result

    def compared_round(self, label: str) -> RoundResult:
        """Score the next window with the champion of now and with version 1 left stale, then run a round on it."""
        events, pointer = self.windows.pop(0), self.registry.champion_pointer()
        assert self.comparison is not None  # the first step
        assert pointer is not None  # made version 1 the champion
        known = named_by(self.journal, events)  # what the bundles learned from
        self.compared.append(self.comparison.window(label, pointer.number, pointer.bundle_dir, known))
        return self.round(label, events)

    def approve(self, result: RoundResult, reason: str) -> str:
        """Approve a waiting version; its number."""
        if result.outcome != "waiting" or result.version is None:
            raise DemoFailed(f"expected a challenger that waits, the round came out {result.outcome}: {result.reason}")
        Decisions(self.registry, self.state).approve(result.version, PERSON, reason, datetime.now(UTC))
        return result.version

    def recommended(self, user: str) -> list[dict[str, Any]]:
        """A user's top ten, through HTTP."""
        body = {"user_id": user, "k": 10}
        answer = httpx.post(f"{self.address}/v1/recommendations", json=body, timeout=ASK_S)
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items
