"""The deployments' schedules are the ones in params.yaml, whatever they are."""

import re
from pathlib import Path

import pytest
import yaml

from flows.deployment import every, from_params
from penstock.errors import SettingsError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [(10, "*/10 * * * *"), (5.0, "*/5 * * * *"), (1, "*/1 * * * *"), (60, "0 */1 * * *"), (1440, "0 0 * * *")],
)
def test_a_period_becomes_a_cron_line(minutes: float, cron: str) -> None:
    assert every("schedule.round_minutes", minutes) == cron


@pytest.mark.parametrize("minutes", [7, 0.5, 45, 90, 2880])
def test_a_period_that_cron_cannot_say_is_refused_by_name(minutes: float) -> None:
    with pytest.raises(SettingsError, match=rf"schedule\.watch_minutes is {minutes:g}.*make up"):
        every("schedule.watch_minutes", minutes)


def test_an_override_reaches_the_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PENSTOCK__SCHEDULE__ROUND_MINUTES", "20")
    assert from_params()["round_cron"] == "*/20 * * * *"


def test_prefect_yaml_asks_only_for_what_the_step_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "prefect.yaml").read_text()
    assert set(re.findall(r"{{ params\.(\w+) }}", text)) == set(from_params())


def test_every_deployment_points_at_a_flow_of_its_name() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in deployments] == ["online_round", "batch_rebuild", "promotion", "watch"]
    for one in deployments:
        path, function = one["entrypoint"].split(":")
        assert f"def {function}(" in (ROOT / path).read_text()
        assert f'@flow(name="{one["name"]}"' in (ROOT / path).read_text()
