"""Writes the figures of results/*.json into docs/benchmarks.md and docs/gates.md, between their markers.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

from measure import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
GATES = PAGE.with_name("gates.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def row(*cells: object) -> str:
    """One line of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*cells), "|" + "---|" * len(cells)]


def times(value: float, target: float, at_most: bool = False) -> str:
    """A ratio and whether it is what was aimed for."""
    met = value <= target if at_most else value >= target
    return f"{value:.3g}× (aim: {'≤' if at_most else '≥'} {target:g}×, {'met' if met else 'missed'})"


def within(value: float, target: float, unit: str) -> str:
    """An amount and whether it is at most what was aimed for."""
    return f"{value:.3g} {unit} (aim: ≤ {target:g} {unit}, {'met' if value <= target else 'missed'})"


def throughput(tree: dict[str, Any]) -> list[str]:
    """Ours and the three rivals."""
    ours = tree["ours"]
    lines = [
        f"{ours['requests']:,} requests a round, 20 past and 5 shown items, {tree['titles']:,} distinct titles.",
        "",
        *head("method", "requests/s", "ours is faster by", "NDCG@10 after n requests", "ours after n", "n"),
    ]
    aims = {"article": 300, "slots": 35, "sentence-transformers": 10}
    words = {
        "article": "the article's code",
        "slots": "every slot encoded, no padding",
        "sentence-transformers": "sentence-transformers, in-batch negatives",
    }
    for name, aim in aims.items():
        found = tree[name]
        lines.append(
            row(
                words[name], f"{found['requests_per_s']:.3g}", times(found["ours_is_faster_by"], aim),
                f"{found['ndcg@10']:.4f}", f"{found['ours_ndcg@10_after_as_many']:.4f}", found["learned_requests"],
            )
        )  # fmt: skip
    lines += [
        row("penstock, features counted", f"{ours['requests_per_s']:.3g}", "", "", f"{ours['ndcg@10']:.4f}", "round"),
        row("penstock, without features", f"{ours['requests_per_s_without_features']:.3g}", "", "", "", ""),
        "",
        f"A random order scores {tree['random_ndcg@10']:.4f}. Peak memory of ours {within(ours['peak_gb'], 4, 'GB')}. "
        "The rivals are timed on chunks of a round and stated per request; a full round would take them minutes to "
        "hours. So their NDCG@10 is after as many requests as those chunks held, with ours after as many beside it; "
        f"scored on {tree['scored_requests']} requests, without an interval: a few hundredths may be chance.",
    ]
    return lines


def exact_gradient(tree: dict[str, Any]) -> list[str]:
    """Distinct titles against padded slots."""
    error = tree["relative_gradient_error"]
    return [
        f"A round of {tree['requests']:,} requests over {tree['distinct_titles']:,} titles; features are not counted.",
        "",
        *head("every encoder parameter", "requests/s", ""),
        row("each distinct title once", f"{tree['once_requests_per_s']:.3g}", times(tree["faster_by"], 12)),
        row("every slot, padded", f"{tree['slots_requests_per_s']:.3g}", f"on {tree['slots_chunk_requests']} requests"),
        "",
        f"Relative difference of the two gradients: {error:.1e} (aim: ≤ 1e-5, {'met' if error <= 1e-5 else 'missed'}).",
    ]


def growth(tree: dict[str, Any]) -> list[str]:
    """Tenfold events and items."""
    lines = head("round", "requests", "items", "features", "learning", "of it encoder", "costs")
    costs = {
        "base": "1",
        "events_x10": times(tree["events_x10_costs"], 2.5, at_most=True),
        "catalogue_x10": times(tree["catalogue_x10_costs"], 1.3, at_most=True),
    }
    for name, cost in costs.items():
        part = tree[name]
        learn_s = part["round_s"] - part["features_s"]
        seconds = (f"{value:.2f} s" for value in (part["features_s"], learn_s, part["of_it_encoder_s"]))
        lines.append(row(name.replace("_x10", " ×10"), part["requests"], f"{part['items']:,}", *seconds, cost))
    return lines


def index_refresh(tree: dict[str, Any]) -> list[str]:
    """Each tuning method."""
    lines = head("tuning", f"{tree['items']:,} items of {tree['tokens']} tokens", "measured on")
    for name, part in tree["methods"].items():
        basis = f"{part['items']:,} items" + (", scaled" if part["scaled"] else "")
        lines.append(row(name, within(part["all_items_s"], 10, "s"), basis))
    return [*lines, row("frozen", "nothing to do", "")]


def round_to_bundle(tree: dict[str, Any]) -> list[str]:
    """Stages of a round."""
    total = tree["gated_bundle_median_s"]
    lines = [
        f"{tree['interactions']:,} interactions, {tree['items']:,} items: {within(total, 45, 's')}; with registration "
        f"and promotion {tree['decided_median_s']:.3g} s. The first round, which encodes the catalogue and exports the "
        f"graphs, took {tree['first_round_s']:.3g} s.",
        "",
        *head("stage", "seconds", "share"),
    ]
    for name, value in tree["stages_median_s"].items():
        lines.append(row(name, f"{value:.2f}", f"{value / total:.0%}"))
    return lines


def gpu(tree: dict[str, Any]) -> list[str]:
    """Only ever written by a GPU."""
    return [
        *head(tree["device"], ""),
        row("titles/s, full fine-tune, 32 tokens", f"{tree['titles_per_s']:,.0f} (aim: ≥ 130,000)"),
        row(
            f"round of {tree['round_requests']:,} requests over {tree['round_items']:,} items",
            within(tree["round_median_s"], 5, "s"),
        ),
    ]


def gap(found: dict[str, float]) -> str:
    """A difference with its interval."""
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def variants(tree: dict[str, Any]) -> list[str]:
    """Rows of variants, a column for each log: the whole model's NDCG@10, then differences to it."""
    logs = tree["logs"]
    whole = next(name for log in logs.values() for name, found in log["variants"].items() if "difference" not in found)
    lines = head("NDCG@10", *logs)
    cells = (log["variants"][whole] for log in logs.values())
    lines.append(row(whole, *(f"{one['ndcg@10']:.4f} [{one['low']:.3f}, {one['high']:.3f}]" for one in cells)))
    for name in dict.fromkeys(name for log in logs.values() for name in log["variants"] if name != whole):
        cells = (log["variants"].get(name) for log in logs.values())
        lines.append(row(name, *("–" if one is None else gap(one["difference"]) for one in cells)))
    seen = (
        f"{name}: {log['scored_requests']:,} requests of {log['windows']} windows scored, the head learned from "
        f"{log['warm_up_requests']:,} requests of the warm-up"
        for name, log in logs.items()
    )
    why = "A dash: not run, or it means nothing on that log."
    return [*lines, "", f"{why} Mean over the seeds {', '.join(map(str, tree['seeds']))}. {'; '.join(seen)}."]


def simulated_news(tree: dict[str, Any]) -> list[str]:
    """Methods, then what was aimed for."""
    world, fresh = tree["world"], tree["fresh"]
    lines = [
        f"{world['items']:,} items that live {world['item_life_h']:g} h, {world['days']:g} days, "
        f"{world['requests_per_day']:,} requests a day; {tree['scored_requests']:,} requests scored, fresh: {fresh}.",
        "",
        *head("model", "NDCG@10 [95%]"),
    ]
    for name, one in tree["ndcg@10"].items():
        lines.append(row(name, f"{one['mean']:.4f} [{one['low']:.3f}, {one['high']:.3f}]"))
    lines += ["", "Oracle without items: without what an item is beyond its text, its own quality and bursts; without "]
    lines[-1] += "style: without what users think of a text's style. That is the most counts and texts can bring."
    lines += ["", *head("figure", "measured [95%]", "aim")]
    share = tree["share of the oracle"]
    aims = tree["targets"]
    cells = f"{share['mean']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"
    lines.append(row("share of the oracle", cells, reached(share["mean"], aims["share of the oracle"])))
    for name in ("fresh against daily", "tuned against frozen"):
        one = tree[name]
        cells = f"{one['relative']:+.1%} [{one['relative_low']:+.1%}, {one['relative_high']:+.1%}]"
        lines.append(row(name, cells, reached(one["relative"], aims[name])))
    return lines


def reached(value: float, target: float) -> str:
    """A share and whether it is at least what was aimed for."""
    return f"≥ {target:.0%}, {'met' if value >= target else 'missed'}"


ENCODERS = {
    "sentence-transformers": "sentence-transformers, float32",
    "float32": "penstock, float32",
    "fused": "penstock, float32, onnxruntime's transformer optimizer",
    "quantize_dynamic": "onnxruntime's quantize_dynamic, by column, 7 bits",
    "int8": "penstock, int8",
}


def encoding(tree: dict[str, Any]) -> list[str]:
    """Texts per second of every encoder, and what int8 costs in quality."""
    tokens, runs = tree["tokens"], tree["threads"]
    columns = [(count, group) for count in runs for group in tokens]
    words = [f"{group} ({tokens[group]:.0f} tokens), threads: {count}" for count, group in columns]
    lines = head("texts/s", *words, "text.onnx, MiB")
    for name, title in ENCODERS.items():
        rates = [runs[count][group]["texts_per_s"] for count, group in columns]
        cells = [f"{rate[name]:.0f} ({rate[name] / rate['sentence-transformers']:.2f}×)" for rate in rates]
        size = tree["graph_mb"].get(name)
        lines.append(row(title, *cells, "" if size is None else f"{size:.1f}"))
    faster = [runs[count][group]["texts_per_s"] for count, group in columns]
    least = min(rate["int8"] / rate["sentence-transformers"] for rate in faster)
    plain = tree["quality"]["float32"]["ndcg@10"]
    lines += ["", f"Where penstock's int8 gains least: {times(least, 3)}.", ""]
    kinds = (f"NDCG@10, {kind}" for kind in plain)
    lines += head("against float32", "mean cosine", "smallest", "top 10 shared", *kinds)
    for name, one in tree["quality"].items():
        ndcgs = [f"{value:.4f} ({value / plain[kind] - 1:+.2%})" for kind, value in one["ndcg@10"].items()]
        cosines = (f"{one[key]:.4f}" for key in ("mean_cosine", "min_cosine", "top10_overlap"))
        lines.append(row(ENCODERS[name], *cosines, *ndcgs))
    return [*lines, "", f"{tree['scored_requests']:,} requests; *all new*: no item has anything but its text's vector."]


SECTIONS = {
    "throughput": ("Learning throughput", throughput),
    "exact_gradient": ("Exact gradients", exact_gradient),
    "growth": ("Growth", growth),
    "index_refresh": ("Index refresh", index_refresh),
    "round_to_bundle": ("From a closed snapshot to a gated bundle", round_to_bundle),
    "encoding": ("Encoding texts on a CPU", encoding),
    "gpu": ("GPU", gpu),
    "ablation": ("Each part of the ranking model left out", variants),
    "stability": ("Stability, on the warm-up's last quarter", variants),
    "simulated_news": ("A simulated news site", simulated_news),
}


def section(name: str) -> list[str]:
    """A heading, the table, and what it was measured on; nothing where it was not measured."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    tree = json.loads(path.read_text(encoding="utf-8"))
    title, lines = SECTIONS[name]
    return [f"### {title}", "", *lines(tree), "", f"*{basis_of(tree)}*", ""]


def basis_of(tree: dict[str, Any]) -> str:
    """What it was measured on."""
    machine = tree["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, clock: {machine['clock']}, torch threads: "
        f"{machine['torch_threads']}, load {machine['load_1m']}, torch {machine['libraries']['torch']}, "
        f"{tree['at'][:10]}."
    )


def share(value: float | None) -> str:
    """As a percentage; a dash where nothing of the kind was there."""
    return "–" if value is None else f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"


def false_promotions(tree: dict[str, Any]) -> list[str]:
    """Months with a false promotion, and what passes of the sound ones."""
    names = list(tree["scenarios"][0]["methods"])
    months = sorted({one["months"] for one in tree["scenarios"]})
    lines = [
        f"{months[-1]} months of {tree['rounds_a_month']:,} rounds each ({months[0]} with 500 requests). For each "
        "method: months with a false promotion / sound challengers passed on the first day / over the month.",
        "",
        *head("challengers", "held-out requests (users)", *names),
    ]
    columns = (
        "months_with_a_false_promotion",
        "sound_challengers_passed_on_day_1",
        "sound_challengers_passed",
    )
    for one in tree["scenarios"]:
        cells = [" / ".join(share(one["methods"][name][column]) for column in columns) for name in names]
        lines.append(row(one["scenario"], f"{one['requests']} ({one['users']})", *cells))
    return [*lines, "", f"*{basis_of(tree)}*"]


def attacks(tree: dict[str, Any]) -> list[str]:
    """Each attack's effect on what users see, with and without the rules of `suspects`."""
    rows = tree["rows"]
    rates = sorted({one["rate"] for one in rows if one["defended"]})
    lines = [
        f"{tree['breaches']} breaches in {tree['attacks']} attacks ({share(tree['breach_rate'])}); with the rules "
        f"switched off, at 1 percent: {tree['breaches_without_rules']}. In each cell: users of "
        f"{tree['users_asked']} who have the target in their top ten, without the attack → with it, for each seed.",
        "",
        *head("attack", *(f"{rate:.1%} of events" for rate in rates), "1%, rules off"),
    ]

    def cell(attack: str, rate: float, defended: bool) -> str:
        found = [o for o in rows if (o["attack"], o["rate"], o["defended"]) == (attack, rate, defended)]
        shown = [o["users_with"] if o["users_with"] is not None else "refused" for o in found]
        words = [f"{one['users_without']} → {with_}" for one, with_ in zip(found, shown, strict=True)]
        return ", ".join(f"**{w}**" if one["breach"] else w for w, one in zip(words, found, strict=True)) or "–"

    for attack in dict.fromkeys(one["attack"] for one in rows):
        lines.append(row(attack, *(cell(attack, rate, True) for rate in rates), cell(attack, 0.01, False)))
    return [*lines, "", "Bold: a breach.", "", f"*{basis_of(tree)}*"]


def validation(tree: dict[str, Any]) -> list[str]:
    """Seconds, memory and rows found of each way to validate."""
    lines = [f"{tree['rows']:,} rows, 10,000 of them broken in one way each.", ""]
    lines += head("method", "median, s", "peak memory of the process, GiB", "broken rows found")
    for name, one in tree["methods"].items():
        lines.append(row(name, f"{one['median_s']:.2f}", f"{one['peak_gb']:.2f}", f"{one['rows_found']:,}"))
    return lines


def between(page: Path, begin: str, end: str, lines: list[str]) -> None:
    """Put lines between two markers of a page."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1], encoding="utf-8")


def main() -> None:
    """Rewrite the pages' figures."""
    between(PAGE, BEGIN, END, [line for name in SECTIONS for line in section(name)][:-1])
    found = RESULTS / "false_promotions.json"
    if found.exists():
        lines = false_promotions(json.loads(found.read_text(encoding="utf-8")))
        between(GATES, "<!-- false promotions: begin -->", "<!-- false promotions: end -->", lines)
    found = RESULTS / "attacks.json"
    if found.exists():
        lines = attacks(json.loads(found.read_text(encoding="utf-8")))
        between(GATES.with_name("poison.md"), "<!-- attacks: begin -->", "<!-- attacks: end -->", lines)
    found = RESULTS / "validation.json"
    if found.exists():
        tree = json.loads(found.read_text(encoding="utf-8"))
        lines = [*validation(tree), "", f"*{basis_of(tree)}*"]
        between(GATES.with_name("data.md"), "<!-- validation: begin -->", "<!-- validation: end -->", lines)


if __name__ == "__main__":
    main()
