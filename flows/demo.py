"""`make demo`: the whole loop on the bundled log, from the first version to a swap under load, in about two minutes.

Everything goes through the same flows, registry and service as in production, in var/ (see flows.demo_home), so that
`make up` goes on from where this ends. The log's times are moved so that it ends now. What is shown is measured in this
run. Two savings: only the newest two thirds of the log are played, and a round moves the text encoder by 128 items
instead of 512.
"""

import importlib
import logging
import os
import sys
import threading
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl

from flows.demo_data import corrupted, little_shown, moved_to_end, warm_up_and_windows
from flows.demo_home import fresh_home, point_at, pulled
from flows.demo_loop import ASK_S, PERSON, Demo, DemoFailed, overridden
from flows.serve import start_service, stop_service, wait_ready
from flows.show import Show
from flows.traffic import Traffic
from penstock.data.dataset import read_dataset, write_dataset
from penstock.data.quarantine import list_quarantine
from penstock.data.simulate import TRUTH_FILE
from penstock.data.snapshot import find_snapshot
from penstock.errors import PenstockError
from penstock.pipeline.compare import Comparison, overall
from penstock.settings import PREFIX, load_settings

PLAYED, WARM_UP, WINDOWS, FRESH_ROUNDS = 0.65, 0.4, 5, 2
BROKEN_SHARE = 0.4
READY_S, SWAP_S = 60.0, 60.0
SERVICE_LOG = "service.log"
DEMO = {
    "DATA__ALLOWED_LATENESS_MINUTES": "0",
    "DATA__LABEL_WAIT_MINUTES": "0",
    "TRAINING__TEXT_ITEMS_PER_STEP": "128",
    # With three in ten of the few requests of a demo round, the gates' intervals are as wide as their margins.
    "TRAINING__HOLDOUT_SHARE": "0.5",
    "SERVICE__POLL_S": "0.25",
}
AUTOMATIC = {"PROMOTION__POLICY": "automatic"}
SPOILT = {
    "TRAINING__LEARNING_RATE": "0.03",
    "TRAINING__RESIDUAL_LEARNING_RATE": "6.0",
    "TRAINING__SPIKE_FACTOR": "1e9",
}


def warm_prefect() -> threading.Thread:
    """Let Prefect make its database and start its temporary server, in a process of its own, while we go on."""

    def start() -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            client.hello()

    thread = threading.Thread(target=start, name="prefect")
    thread.start()
    return thread


def import_learning() -> None:
    """Load what a round needs, which takes seconds, while Prefect starts."""
    for name in ("torch", "peft", "transformers", "great_expectations", "penstock.pipeline.online"):
        importlib.import_module(name)


def first_version(demo: Demo) -> None:
    """The log's first part makes version 1, which somebody has to approve; then the service comes up."""
    result = demo.round("first part of the log", demo.warm_up)
    number = demo.approve(result, "the first version")
    pointer = demo.registry.champion_pointer()
    assert pointer is not None  # just promoted
    demo.service = start_service(demo.settings, demo.settings.state.home / SERVICE_LOG)
    demo.comparison = Comparison(demo.settings, pointer.bundle_dir, demo.data.catalogue, demo.truth)
    wait_ready(demo.address, READY_S)
    demo.show.line(f"version {number} approved by {PERSON}; serving at {demo.address}")


def fresh_rounds(demo: Demo) -> None:
    """Rounds as they come, under the policy that passed gates are enough."""
    with overridden(AUTOMATIC), demo.show.bar("rounds", FRESH_ROUNDS) as bar:
        for number in range(1, FRESH_ROUNDS + 1):
            demo.compared_round(f"round {number}")
            bar.advance(bar.task_ids[0])


def corrupted_batch(demo: Demo) -> None:
    """A broken exporter: the batch is refused whole, with its reason, and the champion keeps serving."""
    result = demo.round("corrupted batch", corrupted(demo.windows[0], BROKEN_SHARE, demo.settings.seed))
    if result.outcome != "quarantined":
        raise DemoFailed(f"the corrupted batch came out {result.outcome}, expected quarantined: {result.reason}")
    held = list_quarantine(demo.state, snapshot_id=result.snapshot_id)
    manifest, _ = find_snapshot(demo.state, result.snapshot_id)
    reasons = "; ".join(reason for entry in held for reason in entry.reasons)
    demo.show.line(f"[red]{manifest.rows} rows in quarantine[/]: {reasons}")
    serving = demo.registry.champion_pointer()
    demo.show.line(f"version {serving.number if serving else None} keeps serving")


def bad_challenger(demo: Demo) -> None:
    """Somebody raises learning rates and switches the guard off: a gate refuses the result by name."""
    with overridden(SPOILT):
        result = demo.compared_round("careless rates")
    if result.outcome != "refused" or result.version is None:
        raise DemoFailed(f"the spoilt challenger came out {result.outcome}, expected refused: {result.reason}")
    report = demo.registry.gate_report(demo.registry.version(result.version))
    if report is None:
        raise DemoFailed(f"version {result.version} was refused without a gate report")
    demo.show.gates(report)


def swap_under_load(demo: Demo) -> None:
    """A good challenger is approved while requests are answered; none may fail."""
    result = demo.compared_round("good challenger")
    if result.outcome == "refused" and demo.windows:
        demo.show.line(f"{result.reason}; so it goes, the next window makes another")
        result = demo.compared_round("another challenger")
    users = demo.warm_up["user_id"].unique().sort().head(50).to_list()
    with Traffic(demo.address, users) as traffic:
        traffic.wait_for_answers(20, ASK_S)
        number = demo.approve(result, "gates passed, looked at the report")
        took_s = traffic.wait_for_version(number, SWAP_S)
        traffic.wait_for_answers(traffic.report.sent + 20, ASK_S)
    report = traffic.report
    if took_s is None or report.failures:
        raise DemoFailed(f"the swap failed: version {number} after {took_s} s, failures {dict(report.failures)}")
    rows = [(version, count) for version, count in report.by_version.items()]
    demo.show.table("", ("answered by version", "requests"), rows, numbers=("requests",))
    demo.show.line(
        f"version {number} answered [bold]{took_s:.2f} s[/] after its approval; {report.sent} requests, "
        f"[bold]0 failed[/], median {report.quantile_ms(0.5):.0f} ms, 99% within {report.quantile_ms(0.99):.0f} ms"
    )


def before_and_after(demo: Demo) -> None:
    """One user's top ten, then that user's clicks on one category, then the top ten again."""
    user = demo.warm_up["user_id"].value_counts().sort("count", "user_id").row(-1)[0]
    before = demo.recommended(user)
    clicked = little_shown(demo.data, {item["item_id"] for item in before})
    at = datetime.now(UTC).isoformat()
    events = [
        {"event_id": f"demo-{item}", "user_id": user, "item_id": item, "kind": "click", "at": at}
        for item in clicked["item_id"]
    ]
    httpx.post(f"{demo.address}/v1/events", json={"events": events}, timeout=ASK_S).raise_for_status()
    after = demo.recommended(user)
    category = clicked["category"][0]
    demo.show.line(f"{user} clicks {len(clicked)} items of [bold]{category}[/]: " + "; ".join(clicked["title"]))
    names = {row[0]: f"{row[1]} ({row[2]})" for row in demo.data.catalogue["item_id", "title", "category"].iter_rows()}
    demo.show.before_and_after([names[item["item_id"]] for item in before], [names[item["item_id"]] for item in after])
    if [item["item_id"] for item in before] == [item["item_id"] for item in after]:
        raise DemoFailed(f"{user}'s top ten is the same after {len(clicked)} clicks as before")


def fresh_against_stale(demo: Demo) -> None:
    """Each round's requests before they were learned from: by the champion of that moment and by version 1."""
    gain, low, high = overall(demo.compared, demo.settings)
    demo.show.compared(demo.compared)
    verdict = "fresh is ahead" if low > 0 else "stale is ahead" if high < 0 else "no difference beyond chance"
    demo.show.line(
        f"fresh minus stale over all requests: {gain:+.4f} (95% interval {low:+.4f} … {high:+.4f}): {verdict}"
    )


STEPS = (
    ("A first version, from the first part of the log", first_version),
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
    pulled(bundled)
    source = read_dataset(bundled.data.dir, bundled.data.max_text_chars)
    truth_file = bundled.data.dir / TRUTH_FILE
    truth = pl.read_parquet(truth_file) if truth_file.exists() else None
    home = fresh_home(bundled)
    point_at(home, bundled)
    os.environ.update({PREFIX + name: value for name, value in DEMO.items()})
    settings = load_settings()
    dataset = moved_to_end(source, datetime.now(UTC) - timedelta(minutes=1))
    write_dataset(dataset, settings.data.dir)
    if not home.own:
        show.line(f"{bundled.state.home} is in use and stays as it is; this demo's state is in {home.folder}")
    played = dataset.events.sort("at", "event_id").tail(int(len(dataset.events) * PLAYED))
    warm_up, windows = warm_up_and_windows(played, WARM_UP, WINDOWS)
    return Demo(show, settings, dataset, truth, warm_up, windows)


def main() -> None:
    """Run every step; exit code 0 when all of them showed what they claim."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    logging.disable(logging.INFO)  # of the libraries; what the demo has to say it prints
    show = Show(steps=len(STEPS))
    demo: Demo | None = None
    try:
        demo = prepare(show)
        with show.working("starting"):
            warming = warm_prefect()
            import_learning()
            warming.join()
        for title, step in STEPS:
            with show.step(title):
                step(demo)
        show.rounds(demo.rounds)
    except PenstockError as error:
        show.failed(str(error))
        sys.exit(1)
    finally:
        if demo is not None and demo.service is not None:
            stop_service(demo.service)
    show.close(demo.address)


if __name__ == "__main__":
    main()
