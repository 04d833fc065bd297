"""What Prometheus reads: every figure that infra/ draws or alerts on is there, and labels stay few."""

import json
import re
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
import yaml
from serving_fakes import NOW, World, event
from whole_bench import Whole

from penstock.data.state import events, rounds, snapshots, to_micros
from penstock.registry.promotion import approve, promote
from penstock.serving.freshness import STAGES, freshness_stages

INFRA = Path(__file__).parents[3] / "infra"
WORDS = {"by", "le", "sum", "rate", "delta", "absent"}


def figures(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_recommendation_is_timed_by_stage_and_its_candidates_counted(world: World) -> None:
    world.client.post("/v1/events", json=event(1))
    world.client.post("/v1/recommendations", json={"user_id": "u1"})
    found = figures(world.client.get("/metrics").text)
    for stage in ("candidates", "features", "policy"):
        assert found[f'penstock_stage_seconds_count{{stage="{stage}"}}'] >= 1, stage
    assert sum(value for name, value in found.items() if name.startswith("penstock_candidates_total")) == 24
    assert found['penstock_version_answers_total{version="1"}'] == 1


def test_freshness_is_broken_down_and_adds_up(whole: Whole) -> None:
    number = whole.register("one")
    approve(whole.registry, whole.state, number, "Ada", "first", NOW)
    promote(whole.registry, whole.state, number, "Ada", "first", None, NOW + timedelta(seconds=90))
    assert freshness_stages(whole.state, "local", number, NOW) == {}, "no round of this database made it"
    whole.runtime.journal.append([event(1), event(2)], NOW - timedelta(seconds=100))
    at = to_micros(NOW)
    result = json.dumps({"stages_s": {"validate": 5.0, "learn": 10.0, "export": 4.0, "gate": 1.0}})
    with whole.state.write() as conn:
        conn.execute(sa.insert(snapshots).values(snapshot_id="s1", status="learned", manifest="{}", window_end=at,
                                                 created_at=at))  # fmt: skip
        conn.execute(sa.update(events).values(snapshot_id="s1"))
        conn.execute(
            sa.insert(rounds).values(
                round_id="r1", snapshot_id="s1", status="done", version=number, result=result,
                started_at=to_micros(NOW + timedelta(seconds=2)),
            )
        )  # fmt: skip
    found = freshness_stages(whole.state, "local", number, NOW + timedelta(seconds=91))
    assert found == {"closed": 100.0, "learned": 17.0, "gated": 5.0, "promoted": 68.0, "serving": 1.0}
    assert tuple(found) == STAGES
    whole.runtime.poll()
    assert 'penstock_freshness_seconds{stage="learned"} 17.0' in whole.client.get("/metrics").text


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bpenstock_[a-z_]+", expression))


def test_what_infra_draws_and_alerts_on_exists(world: World) -> None:
    world.client.post("/v1/recommendations", json={"k": 2})
    declared = set(re.findall(r"^# TYPE (\S+) (\S+)", world.client.get("/metrics").text, re.MULTILINE))
    kinds = dict(declared)
    existing = set(kinds) | {f"{name}_{part}" for name, kind in declared if kind == "histogram"
                             for part in ("bucket", "sum", "count")}  # fmt: skip
    board = json.loads((INFRA / "grafana" / "penstock.json").read_text())
    rules = yaml.safe_load((INFRA / "alerts.yaml").read_text())["groups"][0]["rules"]
    drawn = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in [*drawn, *(rule["expr"] for rule in rules)]:
        names = names_in(expression)
        assert names, expression
        assert names <= existing, f"{expression}: {names - existing}"
        for name in names:
            counts = kinds.get(name) == "counter" or name.endswith("_bucket")
            assert not counts or "rate(" in expression, f"{expression}: a counter without rate"
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["annotations"]["summary"] for rule in rules)
    assert names_in(" ".join(drawn)) >= {"penstock_freshness_seconds", "penstock_stage_seconds_bucket"}
    config = yaml.safe_load((INFRA / "prometheus.yaml").read_text())
    assert all((INFRA / name).is_file() for name in config["rule_files"])


def test_labels_stay_few(world: World) -> None:
    for number in range(40):
        world.client.get(f"/no/such/{number}")
        world.client.get(f"/v1/items/i{number}/similar")
        world.client.post("/v1/recommendations", json={"user_id": f"u{number}", "k": 1})
        world.registry.serve(str(number + 2), "second" if number % 2 == 0 else "first")
        world.runtime.poll()
        world.client.get("/metrics")
    found = figures(world.client.get("/metrics").text)
    assert len([name for name in found if name.startswith("penstock_version_answers_total")]) <= 5
    assert len([name for name in found if name.startswith("penstock_served_version_info")]) == 1
    assert len([name for name in found if name.startswith("penstock_requests_total")]) < 8
    assert not any("u17" in name or "/no/such" in name for name in found)
