"""What a source of events is: batches of messages, each acknowledged only once it is durable in the journal."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True)
class Message:
    """One message as it came.

    `place`: where it lies in its source, unique there. `sent_at`: when the source took it, by the source's clock, where
    it says so. `broken`: why it is no event, where that is already known; `value` is then what was found.
    """

    value: Mapping[str, Any] | bytes
    place: str
    sent_at: datetime | None = None
    broken: str | None = None


@dataclass(frozen=True)
class Batch:
    """Some messages, and how far the source has been read once they are durable.

    `positions` go into the ledger, in the transaction that takes the messages; a number never goes back.
    `keep_received`: the messages say when they were received, as a log that is read in later does.
    """

    messages: list[Message]
    positions: dict[str, int] = field(default_factory=dict)
    keep_received: bool = False


class Source(Protocol):
    """Somewhere that events come from. Used by one thread."""

    @property
    def name(self) -> str:
        """Its address without secrets; the ledger keeps its positions under it."""

    def resume(self, positions: Callable[[], Mapping[str, int]]) -> None:
        """Go on after what the ledger says was taken, by this reader or another. Called before anything is read."""

    def poll(self, limit: int, wait_s: float) -> Batch:
        """At most `limit` messages; an empty batch where none came within `wait_s` seconds.

        Raises:
            SourceError: the source cannot be read; polling again may work.
        """

    def acknowledge(self, batch: Batch) -> None:
        """Tell the source that a batch is durable. Where this fails the batch comes again, which changes nothing.

        Raises:
            SourceError: the source cannot be told.
        """

    def close(self) -> None:
        """Leave the source; others take over what was not acknowledged."""


def parsed(value: bytes, shown: bool = True) -> Mapping[str, Any] | str:
    """The event in a message, or why there is none, with how the message begins where that may be `shown`."""
    try:
        event = json.loads(value)
    except (ValueError, RecursionError) as error:
        found = f"{value[:40]!a}" if shown else f"{len(value)} bytes"
        return f"not a JSON object in UTF-8 ({error}), found {found}; correct the sender"
    return event if isinstance(event, dict) else f"JSON {type(event).__name__}, expected an object with fields"
