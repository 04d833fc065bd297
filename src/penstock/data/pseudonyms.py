"""User ids become pseudonyms at the journal's door: HMAC-SHA256 under a key that lies apart from the data.

Without the key nobody can tell who a pseudonym is, nor try out ids until one fits (a plain hash of a short id falls to
that in seconds). The key is in a file of its own that only its owner may read. A new key gives everybody a new
pseudonym from then on; earlier keys are kept, so that a person can still be found and erased, until they are dropped.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.errors import SettingsError
from penstock.settings import DataSettings

FORM = re.compile(r"u_[0-9a-f]{64}")
KEY_BYTES = 32
OWNER_ONLY = 0o600


class Pseudonyms:
    """The keys of one key file, newest last; made with one key where the file is not there.

    Raises:
        SettingsError: the file cannot be read or made, is none of ours, or others may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            self._write([_new_key()])
        self._keys = self._read()

    def of(self, user_id: str) -> str:
        """The pseudonym of `user_id` under the newest key; a pseudonym stays as it is."""
        return user_id if FORM.fullmatch(user_id) else _hashed(self._keys[-1], user_id)

    def every(self, user_id: str) -> list[str]:
        """The pseudonyms of `user_id` under every key that is kept, the newest last."""
        return [user_id] if FORM.fullmatch(user_id) else [_hashed(key, user_id) for key in self._keys]

    def rotate(self, drop_earlier: bool = False) -> int:
        """Make a new key the one that is used; how many keys are kept now."""
        kept = [] if drop_earlier else self._tree()["keys"]
        self._write([*kept, _new_key()])
        self._keys = self._read()
        return len(self._keys)

    def _tree(self) -> dict[str, Any]:
        try:
            mode = self.path.stat().st_mode & 0o777
            if mode & 0o077:
                raise SettingsError(
                    f"key file {self.path} may be read by others (mode {mode:04o}, expected {OWNER_ONLY:04o}); "
                    f"run chmod 600 {self.path}, and rotate the key if somebody may have read it"
                )
            tree: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return tree
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"key file {self.path} cannot be read ({error}); restore it from a backup: without it nobody's history "
                "is found again"
            ) from error

    def _read(self) -> list[bytes]:
        try:
            keys = [bytes.fromhex(one["key"]) for one in self._tree()["keys"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"key file {self.path} holds no keys ({error!r}); restore it from a backup") from error
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SettingsError(f"key file {self.path} holds no whole key of {KEY_BYTES} bytes; restore it")
        return keys

    def _write(self, keys: list[dict[str, str]]) -> None:
        """Under a temporary name that nobody else may read, then in place."""
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as file:
                json.dump({"keys": keys}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            raise SettingsError(
                f"key file {self.path} cannot be written ({error.strerror}); set data.user_key_file to a place this "
                "user may write"
            ) from error
        finally:
            part.unlink(missing_ok=True)


def user_names(settings: DataSettings) -> Callable[[str], str]:
    """What turns an id into the name under which a user is known: the id itself unless data.hash_users.

    Raises:
        SettingsError: see Pseudonyms.
    """
    return Pseudonyms(settings.user_key_file).of if settings.hash_users else str


def names_of(settings: DataSettings, user_id: str) -> list[str]:
    """Every name under which a user may be found: the id, and its pseudonyms where a key file is there."""
    if not settings.user_key_file.exists():
        return [user_id]
    return list(dict.fromkeys([user_id, *Pseudonyms(settings.user_key_file).every(user_id)]))


def _new_key() -> dict[str, str]:
    return {"key": secrets.token_hex(KEY_BYTES), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def _hashed(key: bytes, user_id: str) -> str:
    return "u_" + hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()
