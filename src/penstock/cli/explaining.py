"""explain: why somebody was shown what they were shown."""

from typing import Any

import click

from penstock.cli.answer import Answer, Output, command
from penstock.cli.opened import open_all
from penstock.cli.screen import Screen

SHOWN = 8


@command(
    "explain",
    click.argument("request_id"),
    click.option(
        "--quick", is_flag=True, help="Leave out the influence of the past, which loads the version's bundle."
    ),
)
def explain(output: Output, request_id: str, quick: bool) -> Answer:
    """Everything behind one answer, by the request_id that came with it.

    The version, its data, rounds, gates and approver; the user's past; and which items of it moved the scores most,
    measured by leaving each out.
    """
    from penstock.serving.explain import explain as tell

    _, state, registry = open_all()
    told = tell(state, registry, request_id, influence=not quick)
    return Answer(told, lambda screen: _show(screen, told))


def _show(screen: Screen, told: dict[str, Any]) -> None:
    asked, version, decision = told["request"], told["version"], told["decision"]
    promotion = decision["promotion"] or {}
    screen.facts(
        {
            "request": f"{asked['request_id']}, {asked['at']}",
            "user": asked["user_id"] or "nobody known",
            "query": asked["query"],
            "clicked": asked["clicked_at"],
            "version": f"{version['number']} (bundle {version['digest'][:12]}), {version['status']}",
            "learned until": version["learned_until"],
            "data sha256": f"{version['data_sha256']} (snapshot {version['snapshot_id']})",
            "code": f"{version['git_commit'][:12]}, parameters {version['params_sha256'][:12]}, seed {version['seed']}",
            "gates": f"{told['gates']['verdict']}, {len(told['gates']['gates'])} measured",
            "approved by": f"{decision['approver']}: {promotion.get('reason')}" if promotion else None,
            "rounds since the base model": len(told["rounds"]) or None,
        }
    )
    rows = [[one["round_id"], one["version"], one["data_sha256"][:12], one["rows"], one["outcome"]] for one in
            told["rounds"][-SHOWN:]]  # fmt: skip
    screen.table(["round", "version", "data", "rows", "outcome"], rows, "The last rounds it carries")
    screen.table(
        ["", "item", "title", "score", "from"],
        [[place, one["item_id"], one["title"], one["score"], one["source"]] for place, one in
         enumerate(asked["items"], 1)],
        "What was shown",
    )  # fmt: skip
    past = [[one["at"], one["kind"], one["item_id"], one["title"]] for one in reversed(told["history"][-SHOWN:])]
    screen.table(["when (UTC)", "what", "item", "title"], past, "The past it was ranked by, newest first")
    if "influence" in told:
        _show_influence(screen, told)
    if "not_measured" in told:
        screen.line(f"what of the past moved the scores cannot be measured: {told['not_measured']}")
    for one in told["followed"]:
        screen.line(f"then: {one['kind']} of {one['item_id']} at {one['at']}")


def _show_influence(screen: Screen, told: dict[str, Any]) -> None:
    influence = told["influence"]
    top = next(iter(told["features"]), None)
    for item, parts in list(told["parts"].items())[:1]:
        ordered = sorted(parts.items(), key=lambda one: -abs(one[1]))
        screen.table(["part", "worth"], [list(one) for one in ordered], f"What the score of {item} rests on")
    rows = [
        [one["item_id"], one["title"], one["mean_change"], one["changes"].get(top)]
        for one in influence["items"][:SHOWN]
    ]
    screen.table(
        ["left out", "title", "mean change", f"change of {top}"], rows, "What of the past moved the scores most"
    )
    if influence["same_scores"]:
        screen.line("scored again for this: the same scores as were answered")
    else:
        screen.line(
            f"scored again for this, the scores differ by up to {influence['largest_difference']}: events were erased, "
            "items were posted since, or the policy changed a score"
        )


COMMANDS = (explain,)
