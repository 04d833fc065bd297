"""Hostile texts through the service into the real journal: each is refused, or comes back as it was sent.

    python benchmarks/hostile_texts.py [--texts 50000]

NUL and other controls, halves of surrogate pairs, bidirectional overrides, combining marks, noncharacters, the
separators of lines, markup, SQL, paths, numbers, and one text in two hundred of up to two million characters. Each is
sent as the query of an event of its own, now raw, now with every character escaped as JSON allows; one in three also
as the user's and the item's name. What the service answers with 202 is read back from the journal and compared.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

ROOT = Path(__file__).parents[1]
PIECES = (
    "\0", "\x01\x1f\x7f", "\ud800", "\udfff", "\udc00\ud800", "\U0001f600", "\u202e\u2066\u2069", "\u200b\u200d\ufeff",
    "\ufffe\uffff\U0010ffff", "\u2028\u2029\x85", "e" + "\u0301" * 40, "\r\n\t\b\f", "\\u0000", "\\", '"',
    "'; DROP TABLE events;--",
    "<script>alert(1)</script>", "../../etc/passwd", "%00%2e%2e", "{{7*7}}", "${x}", "NaN", "-0", "1e999", "true",
    "null", "[]", "{}", "\u0130\u0131\u00df\u1e9e", "\u0627\u0644\u0633\u0644\u0627\u0645", "\u4e2d\u6587", " ",
    "\u00a0\u3000", "a", "word",
)  # fmt: skip
LONG_SHARE, NAME_SHARE, LONGEST = 1 / 200, 1 / 3, 2_000_000
AT_ONCE = 8


def texts(count: int, seed: int, long_share: float = LONG_SHARE) -> Iterator[str]:
    """`count` texts, none empty: pieces from the list above among characters of any plane."""
    rng = random.Random(seed)
    for _ in range(count):
        if rng.random() < long_share:
            piece = rng.choice(PIECES)
            yield piece * (rng.randint(1, LONGEST) // len(piece)) + "end"
            continue
        parts = [rng.choice(PIECES) if rng.random() < 0.6 else chr(rng.randrange(0x110000)) for _ in range(6)]
        yield "".join(parts[: rng.randint(1, 6)])


def body_of(event: dict[str, Any], escaped: bool) -> bytes:
    """JSON of an event; where not escaped, what UTF-8 cannot carry is still escaped, so that it arrives at all."""
    if escaped:
        return json.dumps(event).encode()
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


async def send(app: FastAPI, sent: Iterable[str]) -> tuple[dict[str, dict[str, str]], Counter[str]]:
    """Post every text; returns what was accepted, by event id, and how often each outcome came up.

    Raises:
        AssertionError: an answer that is neither an acceptance nor a refusal.
    """
    accepted: dict[str, dict[str, str]] = {}
    outcomes: Counter[str] = Counter()
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:

        async def post(number: int, text: str) -> None:
            name = text if number % round(1 / NAME_SHARE) == 0 else f"n{number}"
            event = {"event_id": f"e{number}", "user_id": name, "item_id": name, "kind": "click", "query": text}
            body = body_of(event, escaped=number % 2 == 0)
            event = json.loads(json.dumps(event))  # two escaped halves in a row are one character, in JSON
            async with gate:
                answer = await client.post("/v1/events", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (202, 413, 422), f"{answer.status_code} for {text[:80]!a}: {answer.text}"
            taken = answer.json()
            if answer.status_code == 202 and taken["accepted"]:
                accepted[event["event_id"]] = event
                outcomes["accepted"] += 1
            else:
                assert answer.status_code != 202 or taken["rejected"][0]["reason"], "refused without a reason"
                outcomes[f"refused, {answer.status_code}"] += 1

        waiting: set[asyncio.Task[None]] = set()
        for number, text in enumerate(sent):
            waiting.add(asyncio.create_task(post(number, text)))
            if len(waiting) >= 4 * AT_ONCE:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*waiting)
    return accepted, outcomes


def altered(journal: Any, accepted: dict[str, dict[str, str]]) -> list[str]:
    """Ids of accepted events that the journal does not hold exactly as they were sent."""
    left, since = dict(accepted), 0
    changed = []
    while not (page := journal.read(since, 1000)).is_empty():
        since = int(page["seq"][-1])
        for row in page.select("event_id", "user_id", "item_id", "query").iter_rows(named=True):
            sent = left.pop(row["event_id"])
            if any(row[name] != sent[name] for name in ("user_id", "item_id", "query")):
                changed.append(row["event_id"])
    return changed + list(left)


def open_service(home: Path) -> tuple[FastAPI, Any]:
    """The service over a real journal in `home`, with no version loaded."""
    from penstock.data.journal import Journal
    from penstock.data.state import open_state
    from penstock.serving.app import create_app
    from penstock.serving.runtime import Runtime
    from penstock.settings import load_settings

    settings = load_settings(ROOT / "params.yaml", {}).override(
        {"service.rate_per_s": 1e6, "service.rate_burst": 1_000_000, "data.hash_users": False}
    )
    journal = Journal(open_state(f"sqlite:///{home}/state.db"), settings.data)
    runtime = Runtime(None, journal, lambda folder: None, 60.0, clock=lambda: datetime.now(UTC))  # type: ignore[arg-type,return-value]
    return create_app(runtime, settings), journal


def main() -> None:
    """Send, compare, print, write."""
    import measure

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        app, journal = open_service(Path(home))
        started_s = time.perf_counter()
        accepted, outcomes = asyncio.run(send(app, texts(options.texts, options.seed)))
        changed = altered(journal, accepted)
    figures = {"texts": options.texts, "seed": options.seed, "outcomes": dict(outcomes), "altered": len(changed)}
    measure.save("hostile_texts", figures | {"elapsed_s": round(time.perf_counter() - started_s, 1)})
    if changed:
        sys.exit(f"{len(changed)} accepted texts came back altered, the first is {changed[0]}")


if __name__ == "__main__":
    main()
