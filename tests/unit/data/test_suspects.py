"""Machines, bought users and click farms are held with their reason; people, baskets and real fame are not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from stream_bench import NOW, settings_under, table

from penstock.data.simulate import simulate
from penstock.data.suspects import suspect_reasons
from penstock.settings import load_settings

SETTINGS = load_settings(Path(__file__).parents[3] / "params.yaml", {})
LIMITS = SETTINGS.suspects
KNOWN = [f"u{number}" for number in range(100)]


def act(number: int, seconds: float, user: str, item: str = "i1", kind: str = "click", **more: Any) -> dict[str, Any]:
    at = NOW + timedelta(seconds=seconds)
    return {"event_id": f"e{number:05}", "user_id": user, "item_id": item, "kind": kind, "at": at} | more


def reasons(rows: list[dict[str, Any]], known: list[str] = KNOWN, hours: float = 1.0) -> list[str | None]:
    found = suspect_reasons(table(rows), SETTINGS.data.gains, known, hours, LIMITS)
    return found.to_list()


def seen(number: int, seconds: float, user: str, item: str = "i1") -> list[dict[str, Any]]:
    """An item shown to a user, and clicked."""
    request = f"r{number}"
    return [
        act(number, seconds, user, item, "impression", request_id=request, position=0),
        act(number + 50_000, seconds + 5, user, item, request_id=request),
    ]


def test_a_user_faster_than_people_is_held_with_everything_they_did() -> None:
    rows = [act(n, 2.0 * n + (n % 3) / 2, "u1", f"i{n}") for n in range(21)]
    rows += [act(900, 5000, "u1", "i900", "impression")]
    found = reasons(rows)
    assert found[0] == ("suspect: 21 requests within a minute, expected at most 20 (suspects.max_requests_per_minute)")
    assert found == [found[0]] * 22
    assert reasons(rows[:20]) == [None] * 20


def test_gaps_that_no_person_keeps_are_held() -> None:
    steady = [act(n, 60.0 * n + 0.1 * (n % 2), "u1", f"i{n}") for n in range(8)]
    assert str(reasons(steady)[0]).startswith("suspect: 8 requests at gaps that vary by 0.00")
    human = [act(n, 60.0 * n + 17.0 * (n % 3), "u1", f"i{n}") for n in range(8)]
    assert reasons(human) == [None] * 8


def test_one_user_weighs_at_most_so_much_and_a_basket_counts_once() -> None:
    rows = [act(n, 100.0 * n + 7 * (n % 4), "u1", f"i{n}", "purchase") for n in range(12)]
    found = reasons(rows)
    assert found[:10] == [None] * 10
    assert found[10] == (
        "suspect: the user's requests weigh 33.0 with this one, expected at most 30 in this window "
        "(suspects.max_user_gain_per_h)"
    )
    assert reasons(rows, hours=2.0) == [None] * 12
    assert reasons([act(n, 0, "u1", f"i{n}", "purchase") for n in range(40)]) == [None] * 40


def test_the_same_act_many_times_in_one_request_counts_once() -> None:
    found = reasons([act(n, 0, "u1", request_id="r") for n in range(3)])
    assert found == [None] + ["suspect: the same act once more in its request"] * 2


def test_strangers_on_one_item_are_a_farm_and_its_other_clicks_stay() -> None:
    regular = [row for n in range(10) for row in seen(n, 10.0 * n, f"u{n}")]
    farm = [row for n in range(6) for row in seen(100 + n, n, f"bought{n}")]
    found = reasons([*regular, *farm])
    held = [reason for reason in found if reason is not None]
    assert found[: len(regular)] == [None] * len(regular)
    assert held == ["suspect: 6 acts on i1 by users unknown or not shown it, 10 by others, expected at most 4 or 0.5 "
                    "times the others' (suspects)"] * 6  # fmt: skip
    assert reasons([*regular, *farm[:10]]) == [None] * (len(regular) + 10), "five of fifteen may be new"
    assert reasons(farm, known=[]) == [None] * len(farm), "in a first round nobody is known"


def test_known_users_who_were_not_shown_what_they_click_are_held_where_impressions_are_logged() -> None:
    regular = [row for n in range(40) for row in seen(n, 10.0 * n, f"u{n}", f"i{n}")]
    bought = [act(200 + n, n, f"u{50 + n}", "target") for n in range(6)]
    assert [reason is not None for reason in reasons([*regular, *bought])] == [False] * 80 + [True] * 6
    many = [act(300 + n, 40.0 * n + 11 * (n % 5), f"u{50 + n % 40}", "target") for n in range(400)]
    held = [reason is not None for reason in reasons([*regular, *many], hours=5.0)]
    assert held == [False] * 80 + [True] * 400, "an attack larger than everything else does not hide itself"
    assert reasons(bought) == [None] * 6, "without impressions in the log it says nothing"


def test_a_forged_impression_counts_for_nothing_where_the_service_kept_its_answers() -> None:
    regular = [row for n in range(40) for row in seen(n, 10.0 * n, f"u{n}", f"i{n}")]
    forged = [row for n in range(40, 46) for row in seen(n, 10.0 * n, f"u{n}", "target")]
    said = [(f"r{n}", f"i{n}", f"u{n}" if n % 2 else None) for n in range(40)]
    borrowed = [("r40", "target", "u1"), ("r41", "another", "u41")]
    answered = pl.DataFrame(said + borrowed, schema=["request_id", "item_id", "user_id"], orient="row")
    rows = table([*regular, *forged])
    assert reasons([*regular, *forged]) == [None] * 92
    found = suspect_reasons(rows, SETTINGS.data.gains, KNOWN, 1.0, LIMITS, answered)
    held = rows.with_columns(found).filter(pl.col("reason").is_not_null())
    assert held["item_id"].unique().to_list() == ["target"]
    assert held["kind"].to_list() == ["click"] * 6


def test_a_simulated_day_without_attack_is_nearly_all_taken() -> None:
    small = settings_under(Path("var"), **{"simulate.days": 1, "simulate.requests_per_day": 1200}).simulate
    events = simulate(small, 3)[0].events.sort("at")
    half = events["at"][len(events) // 2]
    known = events.filter(pl.col("at") < half)["user_id"].unique().to_list()
    window = events.filter(pl.col("at") >= half)
    held = suspect_reasons(window, SETTINGS.data.gains, known, 12.0, LIMITS).drop_nulls()
    assert len(held) <= 0.005 * len(window), "a third of these users come for the first time within the half day"
