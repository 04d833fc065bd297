"""Simulated attacks on one item's exposure, through real rounds: what share of users would see it in their top ten.

    python benchmarks/attacks.py [--seeds 1 2 3] [--keep FILE]

Each seed is a simulated marketplace. Its first part makes the champion; the next window then goes through a round of
its own twice: as it is, and with fake clicks on a target item added, at 0.5, 1 and 5 percent of the window's events.
An attack breaches when its snapshot is not refused and its version shows the target to over a tenth more users than
the version without the attack, and to at least two more of those asked for. What the gates say of the version is noted
and does not count here: they judge quality, and a marketplace this small makes them refuse much. Beside it, at one
percent, the same with the rules of `suspects` switched off. The text encoder is frozen: an attack works through clicks,
not through texts.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import measure
from penstock.data.dataset import Dataset, write_dataset
from penstock.data.journal import Journal
from penstock.data.simulate import simulate
from penstock.inference.scorer import Scorer, UserContext
from penstock.pipeline.ledger import opened
from penstock.pipeline.online import run_round
from penstock.records import EVENT_COLUMNS, RoundResult
from penstock.serving.answer_log import Answered, AnswerLog
from penstock.settings import Settings, load_settings

RATES = (0.005, 0.01, 0.05)
ASKED, TOP, WARM_UP = 150, 10, 0.6
SMALL: dict[str, Any] = {
    "simulate.items": 150, "simulate.users": 300, "simulate.days": 1, "simulate.requests_per_day": 2400,
    "simulate.item_life_h": 60, "text.tuning": "frozen", "promotion.policy": "automatic",
    "training.negatives": 32, "training.warmup_epochs": 1, "data.allowed_lateness_minutes": 0,
    "data.hash_users": False,
}  # fmt: skip
OFF: dict[str, Any] = {
    "suspects.max_requests_per_minute": 10**9, "suspects.min_gap_spread": 0.0, "suspects.max_user_gain_per_h": 1e12,
    "suspects.farm_min_acts": 10**9, "suspects.max_share": 1.0,
}  # fmt: skip
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """What an attacker knows: the item, other items, accounts that exist, and the window."""

    item: str
    others: list[str]
    users: list[str]
    start: datetime
    end: datetime

    def moments(self, count: int, random: np.random.Generator, first: float = 0.0, last: float = 1.0) -> list[datetime]:
        """Times in a part of the window, ascending."""
        return [self.start + share * (self.end - self.start) for share in np.sort(random.uniform(first, last, count))]


def act(user: str, item: str, at: datetime, kind: str = "click", request: str | None = None) -> dict[str, Any]:
    """One fake event."""
    return {"user_id": user, "item_id": item, "kind": kind, "at": at, "request_id": request}


def bought_user(target: Target, count: int, random: np.random.Generator) -> Rows:
    """One old account clicks all day."""
    return [act(target.users[0], target.item, at) for at in target.moments(count, random)]


def machine(target: Target, count: int, random: np.random.Generator) -> Rows:
    """One old account clicks every second."""
    return [act(target.users[0], target.item, target.start + timedelta(seconds=n)) for n in range(count)]


def farm(target: Target, count: int, random: np.random.Generator) -> Rows:
    """New accounts, one click each, all within a twentieth of the window."""
    return [act(f"farm-{n}", target.item, at) for n, at in enumerate(target.moments(count, random, 0.5, 0.55))]


def slow_farm(target: Target, count: int, random: np.random.Generator) -> Rows:
    """New accounts over the whole window, each with a click on something else first."""
    rows: Rows = []
    for n, at in enumerate(target.moments(count // 2, random)):
        other = str(random.choice(target.others))
        rows += [act(f"slow-{n}", other, at - timedelta(minutes=3)), act(f"slow-{n}", target.item, at)]
    return rows


def old_accounts(target: Target, count: int, random: np.random.Generator) -> Rows:
    """Accounts that exist, one click each, on what they were not shown."""
    users = random.choice(target.users, count)
    return [act(str(user), target.item, at) for user, at in zip(users, target.moments(count, random), strict=True)]


def forged(target: Target, count: int, random: np.random.Generator) -> Rows:
    """Accounts that exist, each click with an impression forged before it."""
    rows: Rows = []
    users = random.choice(target.users, count // 2)
    for n, (user, at) in enumerate(zip(users, target.moments(count // 2, random), strict=True)):
        rows += [
            act(str(user), target.item, at - timedelta(seconds=6), "impression", f"forged-{n}"),
            act(str(user), target.item, at, "click", f"forged-{n}"),
        ]
    return rows


ATTACKS: dict[str, Callable[[Target, int, np.random.Generator], Rows]] = {
    "one bought user": bought_user,
    "one machine": machine,
    "farm of new accounts": farm,
    "slow farm with other clicks": slow_farm,
    "old accounts": old_accounts,
    "old accounts, forged impressions": forged,
}


@dataclass
class Market:
    """A marketplace after its first round, and the window that comes next."""

    settings: Settings
    root: Path
    window: pl.DataFrame
    target: Target

    def round(self, name: str, fakes: Rows, changes: dict[str, Any]) -> tuple[RoundResult, Settings]:
        """The window with fake events through a round, on a copy of the marketplace."""
        folder = self.root.with_name(name)
        shutil.copytree(self.root, folder)
        settings = self.settings.override(places(folder) | changes)
        rows = [{"event_id": f"fake-{n}", "received_at": row["at"], **row} for n, row in enumerate(fakes)]
        events = pl.concat([self.window, pl.DataFrame(rows, schema=EVENT_COLUMNS)])
        now = self.target.end + timedelta(seconds=1)
        keep_answers(settings, self.window)
        Journal(opened(settings), settings.data).append(events.filter(pl.col("at") < self.target.end), now)
        result = run_round(settings, now)
        assert result is not None
        return result, settings

    def exposure(self, result: RoundResult, settings: Settings) -> int | None:
        """Of ASKED users, how many have the target in their top ten; None where the version is not to serve."""
        if result.outcome in ("quarantined", "failed"):
            return None
        scorer = Scorer.load(settings.registry.artifacts / "bundles" / str(result.bundle_digest))
        users = self.target.users[:ASKED]
        tops = (scorer.rank(UserContext(user_id=user), None, self.target.end, TOP) for user in users)
        return sum(any(one.item_id == self.target.item for one in top) for top in tops)


def keep_answers(settings: Settings, window: pl.DataFrame) -> None:
    """What the service would have kept of the window's requests: it answered with what was shown, and no fakes."""
    log = AnswerLog(opened(settings), settings)
    shown = window.filter(pl.col("kind") == "impression").sort("at")
    for (request_id,), rows in shown.group_by("request_id", maintain_order=True):
        items = [[item, 0.0, "popular", 1.0] for item in rows["item_id"]]
        log.put(Answered(str(request_id), rows["at"][0], "1", rows["user_id"][0], body={"items": items}))
    log.flush()


def places(folder: Path) -> dict[str, Any]:
    """Everything that is written, under one folder."""
    return {
        "state.home": str(folder / "var"), "state.url": f"sqlite:///{folder}/state.db",
        "data.dir": str(folder / "data"),
        "registry.tracking_uri": f"sqlite:///{folder}/mlflow.db", "registry.artifacts": str(folder / "artifacts"),
    }  # fmt: skip


def open_market(root: Path, seed: int) -> Market:
    """Simulate, run the first round, choose a target: an item on offer that some but not many click."""
    settings = load_settings(Path(__file__).parents[1] / "params.yaml", {}).override(SMALL | places(root))
    dataset, _ = simulate(settings.simulate, seed)
    events = dataset.events.sort("at")
    write_dataset(Dataset(events[:9], dataset.catalogue, dataset.meta), settings.data.dir)
    start, end = events["at"][int(len(events) * WARM_UP)], events["at"][int(len(events) * (WARM_UP + 0.2))]
    before, window = events.filter(pl.col("at") < start), events.filter((pl.col("at") >= start) & (pl.col("at") < end))
    Journal(opened(settings), settings.data).append(before, start)
    first = run_round(settings, start)
    if first is None or first.outcome != "promoted":
        raise SystemExit(f"seed {seed}: the first round came out {first}")
    random = np.random.default_rng(seed)
    clicks = window.filter(pl.col("kind") == "click")["item_id"].value_counts().sort("count", "item_id")
    middle = clicks["item_id"].to_list()[len(clicks) // 4 : len(clicks) // 2]
    known = before["user_id"].unique().sort().to_list()
    target = Target(str(random.choice(middle)), clicks["item_id"].to_list(), known, start, end)
    return Market(settings, root, window, target)


def attacked(market: Market, name: str, rate: float, base: int, changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """One attack's outcome beside the window without it."""
    random = np.random.default_rng(seed)
    fakes = ATTACKS[name](market.target, round(rate * len(market.window)), random)
    place = f"attacked-{name.replace(' ', '-').replace(',', '')}-{rate}-{len(changes)}"  # MLflow keeps one engine a URI
    result, settings = market.round(place, fakes, changes)
    shown = market.exposure(result, settings)
    shutil.rmtree(market.root.with_name(place))
    breach = shown is not None and shown > base * 1.1 and shown >= base + 2
    return {
        "attack": name, "rate": rate, "seed": seed, "fake_events": len(fakes), "outcome": result.outcome,
        "users_without": base, "users_with": shown, "breach": breach, "defended": not changes,
    }  # fmt: skip


class Kept:
    """Outcomes as JSON lines, so that a run that was cut off goes on where it stopped; of one state of the code."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def find(self, seed: int, name: str, rate: float, defended: bool) -> dict[str, Any] | None:
        """The outcome of an attack that was made before."""
        key = (seed, name, rate, defended)
        found = (row for row in self.rows if (row["seed"], row["attack"], row["rate"], row["defended"]) == key)
        return next(found, None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep one more."""
        measure.note(str(row))
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def measured(seed: int, rates: tuple[float, ...], kept: Kept) -> list[dict[str, Any]]:
    """Every attack at every rate on one marketplace."""
    cases = [
        (name, rate, changes) for name in ATTACKS for rate, changes in [*((one, {}) for one in rates), (0.01, OFF)]
    ]
    known = [kept.find(seed, name, rate, not changes) for name, rate, changes in cases]
    rows = [row for row in known if row is not None]
    if len(rows) == len(cases):
        return rows
    with tempfile.TemporaryDirectory() as folder:
        market = open_market(Path(folder) / "market", seed)
        result, settings = market.round("clean", [], {})
        base = market.exposure(result, settings)
        if base is None:
            raise SystemExit(f"seed {seed}: the window without an attack came out {result.outcome}: {result.reason}")
        for (name, rate, changes), row in zip(cases, known, strict=True):
            if row is None:
                rows.append(attacked(market, name, rate, base, changes, seed))
                kept.add(rows[-1])
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--keep", type=Path, help="file of outcomes that are taken as they are and added to")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    options = parser.parse_args()
    kept = Kept(options.keep)
    rows = [row for seed in options.seeds for row in measured(seed, tuple(options.rates), kept)]
    defended, open_ = ([row["breach"] for row in rows if row["defended"] is kind] for kind in (True, False))
    figures = {"users_asked": ASKED, "attacks": len(defended), "breaches": sum(defended),
               "breach_rate": sum(defended) / len(defended), "breaches_without_rules": f"{sum(open_)} of {len(open_)}",
               "rows": rows}  # fmt: skip
    measure.save("attacks", figures)


if __name__ == "__main__":
    main()
