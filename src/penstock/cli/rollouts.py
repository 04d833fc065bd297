"""rollout start, stop, status and evaluate."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.decisions import ACTOR, REASON
from penstock.cli.opened import entitled, open_all, open_state_only
from penstock.cli.screen import Screen
from penstock.errors import RegistryError

if TYPE_CHECKING:
    from penstock.registry.rollouts import Mode
    from penstock.settings import Settings


@click.group("rollout")
def rollout() -> None:
    """A challenger beside the champion: in the dark, or for a share of the users."""


@command(
    "start",
    click.argument("number"),
    click.option(
        "--mode", type=click.Choice(["shadow", "canary", "ab"]), default="shadow", show_default=True,
        help="shadow: ranks unseen; canary: answers its users and stops itself; ab: answers until stopped.",
    ),
    click.option("--share", type=click.FloatRange(0, 1, min_open=True), help="Of users; rollout.share if left out."),
    REASON,
    ACTOR,
)  # fmt: skip
def start(output: Output, number: str, mode: "Mode", share: float | None, reason: str, actor: str | None) -> Answer:
    """Let a version rank for a share of the users; a running service takes it up within a second."""
    from penstock.registry.rollouts import start as begin

    settings, state, registry = open_all()
    share = settings.rollout.share if share is None else share
    who = entitled(state, actor, "administer", "rollout start", number)
    begun = begin(registry, state, number, mode, share, who, reason, datetime.now(UTC))
    data = {"version": begun.number, "mode": begun.mode, "share": begun.share, "compared_with": begun.champion}
    return Answer(data, lambda screen: screen.facts(data))


@command("stop", REASON, ACTOR)
def stop(output: Output, reason: str, actor: str | None) -> Answer:
    """End the rollout; the champion answers everybody again."""
    from penstock.registry.rollouts import stop as end

    settings, state = open_state_only()
    who = entitled(state, actor, "administer", "rollout stop", "-")
    ended = end(state, settings.registry.environment, who, reason, datetime.now(UTC))
    data = {"version": ended.number, "mode": ended.mode, "ended": reason}
    return Answer(data, lambda screen: screen.facts(data))


@command("status")
def status(output: Output) -> Answer:
    """Both arms of the rollout that runs, or of the last one."""
    from penstock.registry.rollout_results import results
    from penstock.registry.rollouts import latest

    settings, state = open_state_only()
    found = latest(state, settings.registry.environment)
    if found is None:
        return Answer({"rollout": None}, lambda screen: screen.line("none yet; see penstock rollout start --help"))
    data = results(state, found, settings.rollout, _positive(settings), datetime.now(UTC)).to_json()
    return Answer({"rollout": data}, lambda screen: _show(screen, data))


def _show(screen: Screen, data: dict[str, Any]) -> None:
    about = data["rollout"]
    ended = f"ended {about['ended_at']}: {about['ended_why']}" if about["ended_at"] else "runs"
    screen.facts(
        {
            "rollout": f"{about['mode']} of version {about['number']} beside {about['champion']}, {ended}",
            "since": about["started_at"],
            "share of users": f"{about['share']:.1%}",
            "difference of click rates": _interval(data, "difference"),
            "items both show": None if data["agreement"] is None else f"{data['agreement']:.1%}",
        }
    )
    rows = [
        [arm["name"], arm["requests"], arm["users"], arm["failed"], _interval(arm, "click_rate"), arm["p50_ms"],
         arm["p99_ms"]]
        for arm in data["arms"]
    ]  # fmt: skip
    screen.table(["arm", "answers", "users", "failed", "click rate", "p50 ms", "p99 ms"], rows)


def _interval(tree: dict[str, Any], name: str) -> str | None:
    value, low, high = (tree[key] for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return None
    return f"{value:.2%}" if low is None else f"{value:.2%} ({low:.2%} to {high:.2%})"


@command("evaluate")
def evaluate(output: Output) -> Answer:
    """What the last shadow would have earned, from the champion's answers and their propensities.

    Ends with 1 when the log cannot carry a figure: too few placements weigh, or the shadow shows what was never shown.
    """
    from penstock.evaluation.off_policy import OffPolicyRules, estimate, predict_rewards
    from penstock.registry.rollout_results import told_placements
    from penstock.registry.rollouts import latest

    settings, state = open_state_only()
    found = latest(state, settings.registry.environment)
    if found is None or found.mode != "shadow":
        raise RegistryError(
            f"the last rollout is {'none' if found is None else found.mode}, and a challenger is judged off-policy by "
            "what it ranked in the shadow; run `penstock rollout start NUMBER --mode shadow`"
        )
    own = settings.rollout
    logged = told_placements(state, found, own, _positive(settings), datetime.now(UTC))
    rules = OffPolicyRules(own.min_effective_sample, own.max_weight_bias, own.resamples, own.confidence, settings.seed)
    data = {"version": found.number, "champion": found.champion, **estimate(predict_rewards(logged), rules).to_json()}
    return Answer(data, lambda screen: _show_estimates(screen, data))


def _show_estimates(screen: Screen, data: dict[str, Any]) -> None:
    screen.facts(
        {
            "choices per answer": f"version {data['version']} against version {data['champion']}",
            "answers": data["requests"],
            "users": data["users"],
            "effective sample": f"{data['effective_sample']:.0f} of {data['placements']} placements",
        }
    )
    rows = [[name, data[name]["value"], data[name]["low"], data[name]["high"]]
            for name in ("logged", "ips", "snips", "dr", "gain", "mean_weight")]  # fmt: skip
    screen.table(["estimate", "value", "low", "high"], rows)


def _positive(settings: "Settings") -> list[str]:
    return [kind for kind, gain in settings.data.gains.items() if gain > 0]


for one in (start, stop, status, evaluate):
    rollout.add_command(one)

COMMANDS = (rollout,)
