"""What is kept of a message that is no event where user ids may not be stored (data.hash_users).

An object keeps the fields that an event has, its user id as a pseudonym, so that it can still be taken after a
correction. Everything else is dropped: nobody can say where in it an id stands.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.data.sources.protocol import Message
from penstock.records import EVENT_COLUMNS


def without_ids(message: Message, event: Mapping[str, Any] | str, name_of: Callable[[str], str]) -> Message:
    """The message as it may be kept.

    Args:
        event: what was found in it, or why there is nothing.
        name_of: turns a user's id into a pseudonym (`pseudonyms.user_names`).
    """
    if isinstance(event, str):
        return replace(message, value=b"")
    fields = {name: value for name, value in event.items() if name in EVENT_COLUMNS and name != "user_id"}
    user = event.get("user_id")
    if isinstance(user, str) and user:
        fields["user_id"] = name_of(user)
    return replace(message, value=fields)
