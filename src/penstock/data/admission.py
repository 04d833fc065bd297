"""What may be an event at all: the checks at the journal's door, one event at a time."""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from penstock.data.state import to_micros
from penstock.errors import SchemaError
from penstock.records import EVENT_COLUMNS

MAX_ID_CHARS = 256
IDS = ("event_id", "user_id", "item_id")
INT32_MAX = 2**31 - 1


class NotAdmitted(ValueError):
    """Why one event was refused; it never leaves the data layer."""

    def __init__(self, event_id: str | None, reason: str) -> None:
        super().__init__(reason)
        self.event_id = event_id


class Admission:
    """Turns a mapping into a row of the events table, or says why it cannot be one."""

    def __init__(self, kinds: Collection[str], max_text_chars: int) -> None:
        self.kinds = kinds
        self.max_text_chars = max_text_chars

    def admit(
        self, event: Mapping[str, Any], now: datetime, latest: datetime, keep_received: bool = False
    ) -> dict[str, Any]:
        """The row of one event.

        Args:
            latest: the furthest time an event may claim.
            keep_received: take the event's own `received_at` where it is earlier than `now`.

        Raises:
            NotAdmitted: with the field, what it holds, and what was expected.
        """
        if not isinstance(event, Mapping):
            raise NotAdmitted(None, f"event is {type(event).__name__}, expected an object with fields")
        name = event.get("event_id")
        shown = name if isinstance(name, str) and _is_plain(name) and len(name) <= MAX_ID_CHARS else None
        try:
            row = self._row(event, latest)
            received = _time(event, "received_at") if keep_received and event.get("received_at") else now
        except ValueError as error:
            raise NotAdmitted(shown, str(error)) from error
        return row | {"received_at": to_micros(min(received, now))}

    def _row(self, event: Mapping[str, Any], latest: datetime) -> dict[str, Any]:
        unknown = sorted(str(key) for key in event if key not in EVENT_COLUMNS)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!a}, expected some of {', '.join(EVENT_COLUMNS)}; leave it out")
        row: dict[str, Any] = {name: _text(event, name, MAX_ID_CHARS) for name in IDS}
        kind = _text(event, "kind", MAX_ID_CHARS)
        if kind not in self.kinds:
            raise ValueError(
                f"kind is {kind!a}, expected one of {', '.join(self.kinds)}; see data.gains in params.yaml"
            )
        at = _time(event, "at")
        if at > latest:
            raise ValueError(
                f"at is {at.isoformat()}, expected no later than {latest.isoformat()} (data.clock_skew_minutes after "
                "now); set the sender's clock"
            )
        return row | {
            "kind": kind,
            "at": to_micros(at),
            "value": _number(event, "value"),
            "request_id": _optional_text(event, "request_id", MAX_ID_CHARS),
            "position": _whole(event, "position"),
            "propensity": _number(event, "propensity"),
            "query": _optional_text(event, "query", self.max_text_chars),
        }


def need_columns(frame: pl.DataFrame, needed: tuple[str, ...], where: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        SchemaError: naming the columns, those found and those expected.
    """
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{where}: column {', '.join(missing)} is missing, found {', '.join(frame.columns) or 'no columns'}; "
            f"expected at least {', '.join(needed)}; rename or map the columns"
        )


def _text(event: Mapping[str, Any], name: str, max_chars: int) -> str:
    value = event.get(name)
    if value is None:
        raise ValueError(f"{name} is missing; every event needs one")
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, expected text")
    if len(value) > max_chars:
        raise ValueError(f"{name} holds {len(value)} characters, at most {max_chars} are allowed; shorten it")
    if not _is_plain(value):
        raise ValueError(f"{name} holds a NUL character or half a surrogate pair, expected UTF-8 text; encode it anew")
    if not value:
        raise ValueError(f"{name} is empty, expected at least one character")
    return value


def _optional_text(event: Mapping[str, Any], name: str, max_chars: int) -> str | None:
    return _text(event, name, max_chars) if event.get(name) not in (None, "") else None


def _is_plain(value: str) -> bool:
    if "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time(event: Mapping[str, Any], name: str) -> datetime:
    value: object = event.get(name)
    if value is None:
        raise ValueError(f"{name} is missing; every event needs one")
    if isinstance(value, str):
        text = value
        try:
            value = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"{name} is {text[:40]!a}, expected ISO 8601 as 2026-01-05T12:00:00Z") from error
    if not isinstance(value, datetime):
        raise ValueError(f"{name} is {type(value).__name__}, expected a time with a zone")
    if value.tzinfo is None:
        raise ValueError(f"{name} is {value.isoformat()} without a zone, expected UTC as 2026-01-05T12:00:00Z")
    return value


def _number(event: Mapping[str, Any], name: str) -> float | None:
    value = event.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {type(value).__name__}, expected a number or nothing")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}, expected a finite number or nothing")
    return number


def _whole(event: Mapping[str, Any], name: str) -> int | None:
    value = event.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {type(value).__name__}, expected a whole number or nothing")
    if abs(value) > INT32_MAX:
        raise ValueError(f"{name} is {value}, expected at most {INT32_MAX}")
    return value
