"""An open-loop load generator: requests leave when they are due, whether or not earlier ones were answered.

    python benchmarks/service_load.py PORT --rate 200 --seconds 20 [--events 10] [--users 3000]

Latency counts from the moment a request was due, so a stalled service is not excused from the requests it held up
(the "coordinated omission" of closed loops). Raw sockets, kept alive; prints one JSON object.
"""

import argparse
import asyncio
import json
import random
import time
from datetime import UTC, datetime

import uvloop

CONNECTIONS = 400


class Load:
    """Sends, waits, and keeps what it saw."""

    def __init__(self, port: int, users: int, k: int) -> None:
        self.port, self.users, self.k = port, users, k
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.opened = self.closed = 0
        self.turns = asyncio.Semaphore(CONNECTIONS)
        self.latency_ms: list[float] = []
        self.event_ms: list[float] = []
        self.wrong: list[str] = []
        self.random = random.Random(11)

    async def call(self, path: str, body: dict[str, object]) -> tuple[int, bytes]:
        """One POST on a free connection, or on a new one; waits its turn where all are in use."""
        async with self.turns:
            return await self._call(path, body)

    async def _call(self, path: str, body: dict[str, object]) -> tuple[int, bytes]:
        reader, writer = await self.connection()
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        writer.write(head.encode() + str(len(content)).encode() + b"\r\n\r\n" + content)
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if getattr(error, "partial", b""):
                raise
            self.opened -= 1
            self.closed += 1  # it lay idle too long and was closed as the request left; any client sends it again
            return await self._call(path, body)
        lower = answer.lower()
        length = int(lower.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        body_bytes = await reader.readexactly(length)
        self.free.append((reader, writer))
        return int(answer.split(b" ", 2)[1]), body_bytes

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A free connection that the service has not closed, or a new one."""
        while self.free:
            reader, writer = self.free.pop()
            if not reader.at_eof():
                return reader, writer
            self.opened -= 1
        self.opened += 1
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, due: float) -> None:
        """One recommendation, checked to be whole."""
        body = {"user_id": f"user-{self.random.randrange(self.users)}", "k": self.k}
        status, answer = await self.call("/v1/recommendations", body)
        self.latency_ms.append((time.perf_counter() - due) * 1e3)
        if status != 200 or answer.count(b'"propensity"') != self.k or not answer.endswith(b"}"):
            self.wrong.append(f"{status} {answer[:200]!r}")

    async def click(self, due: float, number: int) -> None:
        """One event."""
        event = {
            "event_id": f"load-{time.time_ns()}-{number}",
            "user_id": f"user-{self.random.randrange(self.users)}",
            "item_id": f"item-{self.random.randrange(1000)}",
            "kind": "click",
            "at": datetime.now(UTC).isoformat(),
        }
        status, answer = await self.call("/v1/events", event)
        self.event_ms.append((time.perf_counter() - due) * 1e3)
        if status != 202:
            self.wrong.append(f"{status} {answer[:200]!r}")

    async def run(self, rate: float, seconds: float, events: float) -> None:
        """Send `rate` requests and `events` events a second for so long, evenly spaced, then wait for the answers."""
        started = time.perf_counter() + 0.05
        due = [(started + n / rate, False) for n in range(int(rate * seconds))]
        due += [(started + n / events, True) for n in range(int(events * seconds))] if events else []
        waiting = []
        for number, (at, is_event) in enumerate(sorted(due)):
            pause = at - time.perf_counter()
            if pause > 0.0002:
                await asyncio.sleep(pause)
            waiting.append(asyncio.create_task(self.click(at, number) if is_event else self.ask(at)))
        await asyncio.wait_for(asyncio.gather(*waiting), 60)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Load, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--events", type=float, default=10)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    load = Load(arguments.port, arguments.users, arguments.k)
    started = time.process_time()
    uvloop.run(load.run(arguments.rate, arguments.seconds, arguments.events))
    result = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "answers": len(load.latency_ms),
        "p50_ms": round(quantile(load.latency_ms, 0.5), 2),
        "p99_ms": round(quantile(load.latency_ms, 0.99), 2),
        "max_ms": round(max(load.latency_ms), 2),
        "event_p99_ms": round(quantile(load.event_ms, 0.99), 2) if load.event_ms else None,
        "connections": load.opened,
        "sent_again": load.closed,
        "wrong": len(load.wrong),
        "first_wrong": load.wrong[0] if load.wrong else None,
        "generator_core_share": round((time.process_time() - started) / arguments.seconds, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
