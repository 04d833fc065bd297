"""From a source into the journal: read a batch, make it durable, then acknowledge it.

Events, refused messages and the source's positions are one transaction, which is on the disk when it returns. A crash
before it leaves the batch with the source; one after it, before the acknowledgement, brings the batch again, and an
event_id is taken once. So every message becomes an event once, or is held with its reason.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.data.admission import NotAdmitted
from penstock.data.journal import Journal
from penstock.data.sources.ledger import advance, hold, list_refused, read_positions, refused
from penstock.data.sources.protocol import Batch, Message, Source, parsed
from penstock.data.sources.redaction import without_ids
from penstock.data.state import State
from penstock.errors import SourceError, StateError

log = logging.getLogger(__name__)
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0


@dataclass(frozen=True)
class Fed:
    """What became of the messages so far: `read` = accepted + duplicates + refused."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0

    def plus(self, other: "Fed") -> "Fed":
        """Both together."""
        return Fed(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Feed:
    """Takes what a source brings; `total` says what came of it.

    Args:
        connect: opens the source; called again after a failure, so that reading goes on from the ledger.
        batch_rows: messages of one transaction.
        wait_s: how long a poll waits for a message.
    """

    def __init__(
        self,
        connect: Callable[[], Source],
        journal: Journal,
        batch_rows: int,
        wait_s: float,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.connect, self.journal, self.state = connect, journal, journal.state
        self.batch_rows, self.wait_s = batch_rows, wait_s
        self.clock = clock or (lambda: datetime.now(UTC))
        self.total = Fed()
        self.state.ensure()
        self.source = self._connected()

    def _connected(self) -> Source:
        source = self.connect()
        source.resume(lambda: read_positions(self.state, source.name))
        return source

    def once(self) -> bool:
        """Take one batch; False where nothing came.

        Raises:
            SourceError: the source cannot be read or told; what was taken stays.
            StateError: the journal cannot be written; nothing of the batch is taken or acknowledged.
        """
        batch = self.source.poll(self.batch_rows, self.wait_s)
        if not batch.messages and not batch.positions:
            return False
        self.total = self.total.plus(take(self.journal, self.source.name, batch, self.clock()))
        self.source.acknowledge(batch)
        return True

    def drain(self, told: Callable[[Fed], None], stopped: Callable[[], bool] = lambda: False) -> None:
        """Take batches until nothing comes, or `stopped`.

        Raises:
            SourceError, StateError: see `once`.
        """
        while not stopped() and self.once():
            told(self.total)

    def follow(
        self,
        told: Callable[[Fed], None],
        sleep: Callable[[float], None] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take batches until interrupted, or `stopped`; a source or a database that is gone is tried again, ever more
        seldom."""
        pause_s = FIRST_WAIT_S
        while not stopped():
            try:
                if self.once():
                    told(self.total)
                pause_s = FIRST_WAIT_S
            except (SourceError, StateError) as error:
                log.warning("%s; trying again in %.0f s", error, pause_s)
                self.source.close()
                sleep(pause_s)
                self.source = self._connected()
                pause_s = min(2 * pause_s, LONGEST_WAIT_S)


def take(journal: Journal, source: str, batch: Batch, now: datetime) -> Fed:
    """Make a batch durable: its events in the journal, the rest held, the source's positions moved.

    Raises:
        StateError: the database cannot be written; nothing is taken then.
    """
    rows, wrong = _sorted(journal, batch, now)
    with journal.state.write() as conn:
        accepted = journal.insert(conn, rows)
        new = hold(conn, source, wrong, now)
        advance(conn, source, batch.positions)
    duplicates = len(rows) - accepted + len(wrong) - new
    return Fed(len(batch.messages), accepted, duplicates, new)


def retry(state: State, journal: Journal, now: datetime) -> Fed:
    """Try every held message again, after a correction of the settings or the code; what still is no event stays held.

    Raises:
        StateError: the database cannot be written; nothing has changed then.
    """
    done = Fed()
    for one in list_refused(state):
        message = Message(one.value, one.place, one.sent_at)
        rows, wrong = _sorted(journal, Batch([message]), now)
        if wrong:
            done = done.plus(Fed(1, 0, 0, 1))
            continue
        with state.write() as conn:
            accepted = journal.insert(conn, rows)
            conn.execute(sa.update(refused).where(refused.c.id == one.id).values(status="taken"))
        done = done.plus(Fed(1, accepted, 1 - accepted))
    return done


def _sorted(journal: Journal, batch: Batch, now: datetime) -> tuple[list[dict[str, Any]], list[tuple[Message, str]]]:
    """Rows of the events table, and the other messages, as they may be kept, with why they are no events."""
    shown = not journal.hashes_users
    rows: list[dict[str, Any]] = []
    wrong: list[tuple[Message, str]] = []
    for message in batch.messages:
        event = parsed(message.value, shown) if isinstance(message.value, bytes) else message.value
        reason = message.broken or (event if isinstance(event, str) else None)
        if reason is None and not isinstance(event, str):
            try:
                rows.append(journal.row_of(event, now, message.sent_at, batch.keep_received))
            except NotAdmitted as refusal:
                reason = str(refusal)
        if reason is not None:
            kept = replace(message, broken=None)
            wrong.append((kept if shown else without_ids(kept, event, journal.name_of), reason))
    return rows, wrong
