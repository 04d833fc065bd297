"""`make demo`: the whole loop on the bundled log, from the first version to a swap under load, in about two minutes.

Everything happens in the folder var/demo, which is made anew, through the same flows, registry and service as in
production. The log's times are moved so that it ends now. What is shown is measured in this run.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from penstock.data.quarantine import list_quarantine

from flows.demo_data import corrupted, moved_to_end, warm_up_and_windows
from flows.serve import start_service, stop_service, wait_ready
from flows.show import Show, outcome
from flows.traffic import Traffic
from penstock.data.dataset import read_dataset, write_dataset
from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.records import RoundResult
from penstock.registry.store import open_registry
from penstock.serving.decisions import Decisions
from penstock.settings import Settings, load_settings

FOLDER = Path("var/demo")
WARM_UP, WINDOWS = 0.5, 6
BROKEN_SHARE = 0.4
PERSON = "the demo's operator"
SPOILT = {"TRAINING__LEARNING_RATE": "1.0", "TRAINING__SPIKE_FACTOR": "1e9"}


@contextmanager
def overridden(values: Mapping[str, str]) -> Iterator[None]:
    """Settings overridden through the environment, as a person would, so that flows and service see the same."""
    names = {f"PENSTOCK__{name}": value for name, value in values.items()}
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


@dataclass
class Demo:
    """What the steps share. `windows`: what is still to happen; `rounds`: what came of each, with its label."""

    show: Show
    settings: Settings
    warm_up: pl.DataFrame
    windows: list[pl.DataFrame]
    rounds: list[tuple[str, RoundResult]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = open_state(self.settings.state.url)
        self.registry = open_registry(self.settings, self.state)
        self.journal = Journal(self.state, self.settings.data)

    @property
    def address(self) -> str:
        """Of the service."""
        return f"http://{self.settings.service.host}:{self.settings.service.port}"

    def round(self, label: str, events: pl.DataFrame) -> RoundResult:
        """Accept events and run one round on them."""
        from flows.online_round import online_round

        accepted = self.journal.append(events, datetime.now(UTC))
        result: RoundResult = online_round(return_state=True).result()
        self.rounds.append((label, result))
        took_s = sum(result.stages_s.values())
        self.show.line(
            f"{label}: {accepted.accepted} events, {outcome(result.outcome)} in {took_s:.1f} s; {result.reason}"
        )
        return result

    def approve(self, result: RoundResult, reason: str) -> str:
        """Approve a waiting version; its number."""
        assert result.version is not None  # only a registered version waits
        Decisions(self.registry, self.state).approve(result.version, PERSON, reason, datetime.now(UTC))
        return result.version

    def recommended(self, user: str) -> list[str]:
        """Titles of a user's top ten."""
        answer = httpx.post(f"{self.address}/v1/recommendations", json={"user_id": user, "k": 10}, timeout=10)
        answer.raise_for_status()
        return [item["title"] for item in answer.json()["items"]]


def first_version(demo: Demo) -> None:
    """The log's first half makes version 1, which somebody has to approve."""
    demo.approve(demo.round("first half of the log", demo.warm_up), "the first version")


def fresh_rounds(demo: Demo) -> None:
    """Rounds as they come, under the policy that passed gates are enough."""
    with overridden({"PROMOTION__POLICY": "automatic"}), demo.show.bar("rounds", WINDOWS - 3) as bar:
        for number in range(1, WINDOWS - 2):
            demo.round(f"round {number}", demo.windows.pop(0))
            bar.advance(bar.task_ids[0])


def corrupted_batch(demo: Demo) -> None:
    """A broken exporter: the batch is refused whole, and every row is kept with its reason."""
    result = demo.round("corrupted batch", corrupted(demo.windows[0], BROKEN_SHARE, demo.settings.seed))
    rows = [row for row in list_quarantine(demo.state) if row.snapshot_id == result.snapshot_id]
    demo.show.line(f"[red]{len(rows)} rows in quarantine[/]; the champion keeps serving")


def bad_challenger(demo: Demo) -> None:
    """Somebody sets a learning rate of 1: a gate refuses the result by name."""
    with overridden(SPOILT):
        result = demo.round("a learning rate of 1", demo.windows.pop(0))
    assert result.version is not None  # a refused version is registered, so that it can be looked at
    report = demo.registry.gate_report(demo.registry.version(result.version))
    if report is not None:
        demo.show.gates(report)


def swap_under_load(demo: Demo) -> None:
    """A good challenger is approved while requests are answered; none may fail."""
    result = demo.round("a good challenger", demo.windows.pop(0))
    users = demo.warm_up["user_id"].unique().sort().head(50).to_list()
    with Traffic(demo.address, users) as traffic:
        number = demo.approve(result, "gates passed, looked at the report")
        took_s = traffic.wait_for_version(number, limit_s=10)
    report = traffic.report
    if took_s is None or report.failures:
        raise SystemExit(f"the swap failed: version {number} after {took_s} s, failures {dict(report.failures)}")
    rows = [(version, count) for version, count in report.by_version.items()]
    demo.show.table("", ("answered by version", "requests"), rows, numbers=("requests",))
    demo.show.line(
        f"version {number} answered {took_s:.2f} s after its approval; {report.sent} requests, [bold]0 failed[/], "
        f"median {report.quantile_ms(0.5):.1f} ms, 99% within {report.quantile_ms(0.99):.1f} ms"
    )


def before_and_after(demo: Demo) -> None:
    """One user's top ten, then that user's clicks on one category, then the top ten again."""
    catalogue = read_dataset(demo.settings.data.dir).catalogue
    user = demo.warm_up["user_id"].value_counts().sort("count", "user_id").row(-1)[0]
    before = demo.recommended(user)
    seen = catalogue.filter(pl.col("title").is_in(before))["category"]
    other = catalogue.filter(pl.col("category").is_not_null() & ~pl.col("category").is_in(seen.unique().to_list()))
    clicked = (other if len(other) else catalogue).tail(5)
    events = [
        {"event_id": f"demo-{item}", "user_id": user, "item_id": item, "kind": "click"} for item in clicked["item_id"]
    ]
    httpx.post(f"{demo.address}/v1/events", json={"events": events}, timeout=10).raise_for_status()
    demo.show.line(f"user {user} clicks: " + "; ".join(clicked["title"].to_list()))
    demo.show.before_and_after(before, demo.recommended(user))


def fresh_against_stale(demo: Demo) -> None:
    """Each round's events, scored before they were learned from: by the champion of that moment and by version 1."""
    rows: list[tuple[Any, ...]] = []
    for label, result in demo.rounds:
        fresh, stale = result.metrics.get("ndcg_champion"), result.metrics.get("ndcg_stale")
        if fresh is not None and stale is not None:
            rows.append((label, fresh, stale, fresh - stale))
    demo.show.table("", ("round", "fresh", "stale", "gain"), rows, numbers=("fresh", "stale", "gain"))


STEPS = (
    ("A first version, from the first half of the log", first_version),
    ("Fresh rounds", fresh_rounds),
    ("A corrupted batch", corrupted_batch),
    ("A bad challenger", bad_challenger),
    ("A good challenger, approved and swapped in under load", swap_under_load),
    ("One user, before and after clicks", before_and_after),
    ("The fresh model against the same model left stale", fresh_against_stale),
)


def prepare(show: Show) -> Demo:
    """An empty folder, the bundled log moved to end now, and settings that point there."""
    bundled = load_settings()
    source = read_dataset(bundled.data.dir, bundled.data.max_text_chars)
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.environ.update(
        PENSTOCK__STATE__HOME=str(FOLDER),
        PENSTOCK__STATE__URL=f"sqlite:///{FOLDER}/state.db",
        PENSTOCK__REGISTRY__TRACKING_URI=f"sqlite:///{FOLDER}/mlflow.db",
        PENSTOCK__REGISTRY__ARTIFACTS=str(FOLDER / "artifacts"),
        PENSTOCK__DATA__DIR=str(FOLDER / "data"),
        PENSTOCK__DATA__ALLOWED_LATENESS_MINUTES="0",
    )
    dataset = moved_to_end(source, datetime.now(UTC) - timedelta(minutes=1))
    write_dataset(dataset, FOLDER / "data")
    warm_up, windows = warm_up_and_windows(dataset.events, WARM_UP, WINDOWS)
    return Demo(show, load_settings(), warm_up, windows)


def main() -> None:
    """Run every step; exit code 0 when all of them showed what they claim."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    show = Show(steps=len(STEPS))
    demo = prepare(show)
    service = None
    try:
        for number, (title, step) in enumerate(STEPS):
            with show.step(title):
                step(demo)
                if number == 0:
                    service = start_service(demo.settings)
                    wait_ready(demo.address, limit_s=30)
    finally:
        if service is not None:
            stop_service(service)
    show.close(demo.address)
    sys.exit(0)


if __name__ == "__main__":
    main()
