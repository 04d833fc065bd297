"""Everything behind one answer: version, data, rounds, gates, approver, and what of the user's past moved it.

The influence of the past is measured, not guessed: the version's bundle is loaded again, brought to the moment of the
answer with the journal, and the shown items are scored with each item of the past left out in turn, by the scorer that
serves; score_parts measures what else they rest on. Whether that scorer gives the scores that were answered is part of
the explanation: where it does not (an event was erased, an item was posted since the bundle), the influence is that of
what is left.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from penstock.data.journal import events_frame
from penstock.data.state import State, events, from_micros, rounds, snapshots, to_micros
from penstock.errors import DataError
from penstock.inference.score_parts import score_parts
from penstock.inference.scorer import Scorer, UserContext
from penstock.records import EVENT_COLUMNS
from penstock.registry.approvals import list_approvals
from penstock.registry.store import Registry
from penstock.registry.versions import Version
from penstock.serving.answer_log import Answered, find_answer

LEFT_OUT = 100
"""Each distinct item of so many of the user's last events is left out once: as far as most features look back."""
SAME = 1e-4
"""Scores that differ by no more are the same: onnxruntime sums in another order on another number of cores."""

Load = Callable[[Path], Any]


def explain(
    state: State, registry: Registry, request_id: str, influence: bool = True, load: Load = Scorer.load
) -> dict[str, Any]:
    """Everything that is known of one answer, as one plain dict.

    Args:
        influence: also measure what of the past moved the scores; loads the bundle, which takes seconds. Where the
            bundle is not kept any more, `not_measured` says so instead.
        load: brings up a verified bundle.

    Raises:
        DataError: no answer of that id is kept.
        RegistryError, BundleError: its version or report is gone or altered, or its bundle is not whole.
    """
    answered = find_answer(state, request_id)
    if answered is None:
        raise DataError(
            f"no answer with request_id {request_id!a} is kept; it is older than service.answers_kept_h, was given "
            "within the last second, or never was: the id is in the answer's body and in its header X-Request-Id"
        )
    version = registry.version(answered.version)
    catalogue = _titles(registry.bundle_dir(version))
    told = {
        "request": _request(answered, catalogue),
        "version": _version(version, answered),
        "rounds": _rounds(state, version),
        "gates": _gates(registry, version),
        "decision": _decision(state, registry, answered),
        "history": _history(answered, catalogue),
        "followed": _followed(state, answered),
    }
    if influence and answered.body.get("items"):
        told |= _measured(state, registry.bundle_dir(version), load, answered, catalogue)
    return told


def _measured(state: State, bundle: Path, load: Load, answered: Answered, titles: dict[str, str]) -> dict[str, Any]:
    if not bundle.is_dir():
        why = f"version {answered.version}'s bundle is not kept any more (registry.keep_served, keep_unserved)"
        return {"not_measured": why}
    return _influence(state, load(bundle), answered, titles)


def _request(answered: Answered, titles: dict[str, str]) -> dict[str, Any]:
    body = answered.body
    return {
        "request_id": answered.request_id,
        "at": answered.at.isoformat(),
        "user_id": answered.user_id,
        "failed": answered.failed,
        "clicked_at": None if answered.clicked_at is None else answered.clicked_at.isoformat(),
        **{name: body.get(name) for name in ("k", "query", "filters", "labels")},
        "items": [
            {
                "item_id": item,
                "title": titles.get(item),
                "score": score,
                "source": source,
                "propensity": (*rest, None)[0],
            }
            for item, score, source, *rest in body.get("items", [])
        ],
    }


def _version(version: Version, answered: Answered) -> dict[str, Any]:
    lineage = version.lineage
    return {
        "number": version.number,
        "digest": version.digest,
        "answered_digest": answered.body.get("digest"),
        "status": version.status,
        "registered_at": version.created_at.isoformat(),
        "requester": version.requester,
        **asdict(lineage),
        "learned_until": lineage.learned_until.isoformat(),
    }


def _rounds(state: State, version: Version) -> list[dict[str, Any]]:
    """The rounds whose learning this version carries, oldest first, its own last; see pipeline.checkpoints."""
    own = sa.select(rounds.c.ended_at).where(rounds.c.round_id == version.lineage.round_id)
    with state.read() as conn:
        ended_at = conn.execute(own).scalar_one_or_none()
        if ended_at is None:
            return []
        kept = rounds.c.outcome.in_(("waiting", "promoted")) & (rounds.c.ended_at < ended_at)
        query = (
            sa.select(rounds, snapshots.c.manifest)
            .join(snapshots, snapshots.c.snapshot_id == rounds.c.snapshot_id)
            .where(kept | (rounds.c.round_id == version.lineage.round_id))
            .order_by(rounds.c.ended_at)
        )
        found = conn.execute(query).mappings().all()
    return [
        {
            "round_id": row["round_id"],
            "version": row["version"],
            "outcome": row["outcome"],
            "snapshot_id": row["snapshot_id"],
            "data_sha256": json.loads(row["manifest"])["sha256"],
            "rows": json.loads(row["manifest"])["rows"],
            "ended_at": from_micros(row["ended_at"]).isoformat(),
        }
        for row in found
    ]


def _gates(registry: Registry, version: Version) -> dict[str, Any]:
    report = registry.gate_report(version)
    told: dict[str, Any] = {"verdict": version.gate_verdict, "report_digest": version.report_digest, "gates": []}
    if report is not None:
        told |= {"gates": report.to_json()["gates"], "requests": report.requests, "users": report.users}
    return told


def _decision(state: State, registry: Registry, answered: Answered) -> dict[str, Any]:
    """What let the version serve when it answered: the promotion or rollback, and the approval it spent."""
    own = [one for one in registry.history() if one.number == answered.version and one.at <= answered.at]
    if not own:
        return {"promotion": None, "approval": None, "approver": None}
    made = {one.id: one for one in list_approvals(state, registry.environment, answered.version)}
    spent = next((made[one.approval_id] for one in reversed(own) if one.approval_id in made), None)
    return {
        "promotion": asdict(own[-1]) | {"at": own[-1].at.isoformat()},
        "approval": None if spent is None else _plain(asdict(spent)),
        "approver": own[-1].actor if spent is None else spent.actor,
    }


def _history(answered: Answered, titles: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"item_id": item, "title": titles.get(item), "kind": kind, "at": datetime.fromtimestamp(at_s, UTC).isoformat()}
        for item, kind, at_s in answered.body.get("past", [])
    ]


def _followed(state: State, answered: Answered) -> list[dict[str, Any]]:
    """Events that name the request, in the order of their acceptance."""
    since = answered.body.get("seq", 0)
    query = sa.select(events.c.item_id, events.c.kind, events.c.position, events.c.at).where(
        events.c.seq > since, events.c.request_id == answered.request_id
    )
    with state.read() as conn:
        rows = conn.execute(query.order_by(events.c.seq)).mappings().all()
    return [dict(row) | {"at": from_micros(row["at"]).isoformat()} for row in rows]


def _influence(state: State, scorer: Any, answered: Answered, titles: dict[str, str]) -> dict[str, Any]:
    _bring_to(state, scorer, answered)
    body, at = answered.body, answered.at
    shown = [(item, score) for item, score, *_ in body["items"] if item in scorer.state.row_of]
    items = [item for item, _ in shown]
    past = _past(scorer, answered)
    user = UserContext(None if body["given"] else answered.user_id, past if body["given"] else None, body["query"])
    whole = _scores(scorer, user, items, at)
    difference = float(np.abs(whole - np.array([score for _, score in shown])).max()) if shown else None
    moved = []
    for item in dict.fromkeys(item for item, _, _ in past[-LEFT_OUT:]):
        rest = tuple(one for one in past if one[0] != item)
        change = whole - _scores(scorer, UserContext(history=rest, query=body["query"]), items, at)
        moved.append((item, change))
    moved.sort(key=lambda one: -float(np.abs(one[1]).mean()))
    history = scorer.history_of(user)
    rows = np.array([scorer.state.row_of[item] for item in items], np.int64)
    features = scorer.state.features(history, rows, at.timestamp())
    parts = score_parts(scorer, user, rows, at)
    return {
        "parts": {
            item: {name: float(part_C[place]) for name, part_C in parts.items()} for place, item in enumerate(items)
        },
        "features": {
            item: {name: round(float(value), 4) for name, value in zip(scorer.state.spec.names, row, strict=True)}
            for item, row in zip(items, features, strict=True)
        },
        "influence": {
            "method": "score minus the score with this item of the past left out",
            "same_scores": difference is not None and difference <= SAME,
            "largest_difference": difference,
            "past_events": len(past),
            "unknown_items": [item for item, *_ in body["items"] if item not in scorer.state.row_of],
            "items": [
                {
                    "item_id": item,
                    "title": titles.get(item),
                    "mean_change": float(np.abs(change).mean()),
                    "changes": {other: float(value) for other, value in zip(items, change, strict=True)},
                }
                for item, change in moved
            ],
        },
    }


def _bring_to(state: State, scorer: Any, answered: Answered) -> None:
    """Let the scorer see what it had seen when it answered; see Runtime.bring_up and Runtime.follow."""
    until = datetime.fromisoformat(scorer.learned_until)
    learned = to_micros(until if until.tzinfo else until.replace(tzinfo=UTC))
    loaded, last = answered.body["loaded_seq"], answered.body["seq"]
    seen = sa.or_((events.c.seq <= loaded) & (events.c.at > learned), (events.c.seq > loaded) & (events.c.seq <= last))
    columns = [events.c[name] for name in EVENT_COLUMNS]
    with state.read() as conn:
        frame: pl.DataFrame = events_frame(conn.execute(sa.select(*columns).where(seen).order_by(events.c.seq)))
    if len(frame):
        scorer.observe(frame)


def _past(scorer: Any, answered: Answered) -> tuple[tuple[str, str, datetime], ...]:
    """The user's events as they were ranked by, oldest first."""
    body = answered.body
    if body["given"]:
        return tuple((item, kind, datetime.fromtimestamp(at_s, UTC)) for item, kind, at_s in body["past"])
    past, known = scorer.history_of(UserContext(answered.user_id)), scorer.state
    return tuple(
        (known.items[row], known.spec.kinds[kind], datetime.fromtimestamp(at_s, UTC))
        for row, kind, at_s in zip(past.row_L.tolist(), past.kind_L.tolist(), past.at_s_L.tolist(), strict=True)
    )


def _scores(scorer: Any, user: UserContext, items: list[str], at: datetime) -> Any:
    """Scores of `items`, in their order."""
    if not items:
        return np.zeros(0)
    found = {one.item_id: one.score for one in scorer.rank(user, items, at, len(items))}
    return np.array([found[item] for item in items])


def _titles(bundle_dir: Path) -> dict[str, str]:
    """Titles of the version's items; none where the bundle is gone, which the rest of the explanation outlives."""
    try:
        table = pl.read_parquet(bundle_dir / "items.parquet", columns=["item_id", "title"])
    except (OSError, pl.exceptions.PolarsError):
        return {}
    return dict(zip(table["item_id"].to_list(), table["title"].to_list(), strict=True))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
