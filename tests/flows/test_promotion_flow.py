"""A challenger waits, suspended, until somebody decides; every way to decide ends in the registry."""

from functools import partial
from pathlib import Path

import click.testing
import pytest
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect_worker import runs_of, work
from registry_bench import NOW, Bench, check_fake

import flows.decide
import flows.promotion
import flows.watch
from flows.decide import decide
from flows.decision import Decision, resume, waiting
from flows.promotion import promotion
from flows.watch import follow_decisions
from penstock.registry.audit import entries, verify
from penstock.registry.promotion import approve, promote, reject
from penstock.registry.store import open_registry
from penstock.registry.tokens import VARIABLE, create_token

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture
def asked(bench: Bench, params: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A challenger whose promotion run has been started and has suspended; the version's number."""
    for module in (flows.promotion, flows.watch, flows.decide):
        monkeypatch.setattr(module, "open_registry", partial(open_registry, verify=check_fake))
    for run in runs_of("promotion", StateType.PAUSED, StateType.SCHEDULED):
        flows.watch.runs.cancel(run.id, "left by an earlier test")
    promotion.to_deployment("promotion").apply()
    number = bench.challenger().number
    run_deployment(
        "promotion/promotion", parameters={"version": number, "params": str(params)}, timeout=0, as_subflow=False
    )
    assert work(promotion) == ["Suspended"]
    assert list(waiting()) == [number]
    assert bench.serving() is None
    return number


def test_an_approval_by_the_client_promotes(bench: Bench, asked: str) -> None:
    runner = click.testing.CliRunner()
    result = runner.invoke(decide, [asked, "approve", "--actor", "ada", "--reason", "looks right"])
    assert result.exit_code == 0, result.output
    assert bench.serving() is None, "resuming schedules the run; a worker carries it out"
    assert work(promotion) == ["Completed"]
    assert bench.serving() == asked
    assert bench.registry.history()[-1].actor == "ada"
    assert verify(bench.state).ok
    assert waiting() == {}


def test_a_rejection_by_the_client_keeps_it_from_serving(bench: Bench, asked: str) -> None:
    runner = click.testing.CliRunner()
    result = runner.invoke(decide, [asked, "reject", "--actor", "ada", "--reason", "too narrow"])
    assert result.exit_code == 0, result.output
    assert work(promotion) == ["Completed"]
    assert bench.serving() is None
    assert bench.registry.version(asked).status == "rejected"


def test_the_command_line_acts_at_once_and_watch_ends_the_run_that_waits(bench: Bench, asked: str) -> None:
    approve(bench.registry, bench.state, asked, "ada", "looks right", NOW)
    promote(bench.registry, bench.state, asked, "ada", "looks right", None, NOW)
    assert follow_decisions.fn(bench.settings) == [f"promotion of version {asked}: champion"]
    assert work(promotion) == ["Completed"]
    assert len(bench.registry.history()) == 1, "the decision was made once"
    assert follow_decisions.fn(bench.settings) == []


def test_a_version_that_was_overtaken_has_nothing_left_to_decide(bench: Bench, asked: str) -> None:
    bench.champion()
    assert bench.registry.version(asked).status == "retired"
    assert follow_decisions.fn(bench.settings) == [f"promotion of version {asked}: retired"]
    assert work(promotion) == []
    assert waiting() == {}


def test_a_decision_against_what_was_decided_fails_and_says_why(bench: Bench, asked: str) -> None:
    reject(bench.registry, bench.state, asked, "bob", "no", NOW)
    runner = click.testing.CliRunner()
    assert runner.invoke(decide, [asked, "approve", "--actor", "ada", "--reason", "yes"]).exit_code == 0
    assert work(promotion) == ["Failed"]
    message = runs_of("promotion", StateType.FAILED)[0].state.message
    assert "cannot be approved" in message
    assert bench.serving() is None


def test_once_there_are_tokens_a_form_without_one_is_refused_and_a_token_decides(
    bench: Bench, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = create_token(bench.state, "vera", "viewer", "root", NOW)
    approver = create_token(bench.state, "ada", "approver", "root", NOW)
    words = [asked, "approve", "--reason", "yes"]
    monkeypatch.setenv(VARIABLE, viewer)
    refused = click.testing.CliRunner().invoke(decide, words)
    assert refused.exit_code == 1
    assert "vera is viewer, it takes approver, admin" in refused.output
    assert list(waiting()) == [asked], "the run still waits"
    monkeypatch.setenv(VARIABLE, approver)
    done = click.testing.CliRunner().invoke(decide, words)
    assert done.exit_code == 0, done.output
    assert bench.serving() == asked
    assert work(promotion) == ["Completed"]
    assert [one.actor for one in bench.registry.history()] == ["ada"]
    assert "approve-refused" in [entry.action for entry in entries(bench.state)]


def test_a_form_signed_with_a_mere_name_is_refused_once_there_are_tokens(bench: Bench, asked: str) -> None:
    create_token(bench.state, "ada", "approver", "root", NOW)
    resume(asked, Decision(approve=True, actor="ada", reason="trust me"))
    assert work(promotion) == ["Failed"]
    assert bench.serving() is None
    last = entries(bench.state)[-1]
    assert (last.actor, last.action) == ("ada", "approve-refused")


def test_deciding_about_a_version_nobody_asks_about_names_those_that_wait(asked: str) -> None:
    result = click.testing.CliRunner().invoke(decide, ["99", "approve", "--actor", "ada", "--reason", "x"])
    assert result.exit_code == 1
    assert f"waiting are ['{asked}']" in result.output
