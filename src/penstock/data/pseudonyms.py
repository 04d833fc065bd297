"""User ids become pseudonyms at the journal's door: HMAC-SHA256 under a key that lies apart from the data.

Without the key nobody can tell who a pseudonym is, nor try out ids until one fits (a plain hash of a short id falls to
that in seconds). The key is in a file of its own that only its owner may read. A new key gives everybody a new
pseudonym from then on; earlier keys are kept, so that a person can still be found and erased, until they are dropped.

The first key is made by itself only for a journal that holds no event. Made later, it would turn every user into two:
the one whose events are there under the plain id, or under a key that was lost, and another without a history.
"""

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

    A key that another process makes is used at once: a service that went on with the earlier one would know a user by
    another name than whatever was started since. While the file is away the keys read from it hold.

    Raises:
        SettingsError: the file cannot be read or made, is none of ours, or others may read it; at every use, since the
            file may change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            self._write([_new_key()], first=True)
        self._read_at: tuple[int, int] | None = None
        self._keys: list[bytes] = []
        self._newest()

    def of(self, user_id: str) -> str:
        """The pseudonym of `user_id` under the newest key; a pseudonym stays as it is."""
        return user_id if FORM.fullmatch(user_id) else _hashed(self._newest()[-1], user_id)

    def every(self, user_id: str) -> list[str]:
        """The pseudonyms of `user_id` under every key that is kept, the newest last."""
        return [user_id] if FORM.fullmatch(user_id) else [_hashed(key, user_id) for key in self._newest()]

    def rotate(self, drop_earlier: bool = False) -> int:
        """Make a new key the one that is used; how many keys are kept now."""
        kept = [] if drop_earlier else self._tree()["keys"]
        self._write([*kept, _new_key()])
        return len(self._newest())

    def _newest(self) -> list[bytes]:
        """The keys as the file holds them now; asked on every use, which costs about a microsecond."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if not self._keys:
                raise
            return self._keys
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._read_at:
            self._keys, self._read_at = self._read(), stamp
        return self._keys

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

    def _write(self, keys: list[dict[str, str]], first: bool = False) -> None:
        """Under a temporary name that nobody else may read, then in place; a `first` one stays away where another
        process was quicker."""
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as file:
                json.dump({"keys": keys}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if first:
                os.link(part, self.path)
            else:
                part.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)  # a key outlives a power cut as the events under it do
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            return  # its key is read instead
        except OSError as error:
            raise SettingsError(
                f"key file {self.path} cannot be written ({error.strerror}); set data.user_key_file to a place this "
                "user may write"
            ) from error
        finally:
            part.unlink(missing_ok=True)


def user_names(settings: DataSettings, newest: Callable[[], str | None]) -> Callable[[str], str]:
    """What turns an id into the name under which a user is known: the id itself unless data.hash_users.

    Args:
        newest: the name in the journal's newest event, None where it holds none; asked only in doubt.

    Raises:
        SettingsError: every user of the journal would become two, or see Pseudonyms.
    """
    path = settings.user_key_file
    if settings.hash_users == path.exists():
        return Pseudonyms(path).of if settings.hash_users else str
    name = newest()
    hashed = name is not None and FORM.fullmatch(name) is not None
    if not settings.hash_users and not hashed:
        return str
    if not settings.hash_users:
        raise SettingsError(
            f"the journal holds pseudonyms, data.hash_users is false and {path} still holds a key: every user would "
            "become two; set data.hash_users to true, or move the key file away to go on with plain ids"
        )
    if name is None or path.exists():  # another process may have made it meanwhile, and taken the first event
        return Pseudonyms(path).of
    anew = "or run `penstock rotate-user-key` to make a key: everybody then starts anew, without a history"
    if hashed:
        raise SettingsError(
            f"the journal holds pseudonyms, and the key file {path} is not there: every user would become two; restore "
            f"it from a backup, {anew}"
        )
    raise SettingsError(
        f"the journal holds plain user ids, data.hash_users is true and there is no key file {path}: every user would "
        f"become two; set data.hash_users to false to go on as before, {anew}"
    )


def names_of(settings: DataSettings, user_id: str) -> list[str]:
    """Every name under which a user may be found: the id, and its pseudonyms where a key file is there."""
    if not settings.user_key_file.exists():
        return [user_id]
    return list(dict.fromkeys([user_id, *Pseudonyms(settings.user_key_file).every(user_id)]))


def _new_key() -> dict[str, str]:
    return {"key": secrets.token_hex(KEY_BYTES), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def _hashed(key: bytes, user_id: str) -> str:
    return "u_" + hmac.digest(key, user_id.encode(), "sha256").hex()
