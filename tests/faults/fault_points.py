"""Where a process can be killed or made to fail: every file it opens to write, renames, removes or syncs, and every
statement that changes a database and every commit, those of the registry's database too.

Installed in a child process only, because an audit hook cannot be taken off again.
"""

import errno
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
CHANGES = ("insert", "update", "delete", "create", "alter")

Action = Literal["count", "kill", "once", "ever", "stop"]


@dataclass(frozen=True)
class Plan:
    """What happens at operation number `at`, counted from 1.

    count: nothing; kill: SIGKILL; once, ever: the operation fails, or it and all that follow; stop: SIGSTOP at
    the first operation from there on that is in no transaction; the process hangs until somebody lets it go on.
    `torn`: a file that is about to be renamed is cut in half before the kill, as if it had happened inside the write.
    """

    action: Action = "count"
    at: int = 0
    torn: bool = False
    code: int = errno.ENOSPC


class Points:
    """Counts operations; one per process."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.count, self.hit = plan, 0, ""
        self.process = os.getpid()
        self.transactions: set[int] = set()

    def install(self) -> "Points":
        """Watch files and databases from now on."""
        sys.addaudithook(self._audit)
        sync = os.fsync

        def fsync(file: Any) -> None:
            self._step("fsync", self._os_error)
            sync(file)

        os.fsync = fsync
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", self._statement)
        sa.event.listen(sa.engine.Engine, "commit", lambda _: self._step("commit", self._database_error))
        # From before the lock is taken until after it is let go: the lease's heart beats in a thread of its own.
        sa.event.listen(sa.engine.Engine, "begin", self._within, insert=True)
        sa.event.listen(sa.pool.Pool, "checkin", self._without)
        return self

    def _within(self, connection: sa.engine.Connection) -> None:
        self.transactions.add(id(connection.connection.dbapi_connection))

    def _without(self, dbapi_connection: Any, _: Any) -> None:
        self.transactions.discard(id(dbapi_connection))

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if os.getpid() != self.process:
            return
        if event == "open" and isinstance(args[0], str | os.PathLike):
            mode, flags = args[1] or "", args[2] or 0
            if set("wax+") & set(mode) or (not mode and flags & WRITING):
                self._step(f"open {os.path.basename(args[0])}", self._os_error)
        elif event in FILE_EVENTS:
            self._step(f"{event} {os.path.basename(os.fspath(args[0]))}", self._os_error, args[0])

    def _statement(self, _conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().split(None, 1)[0].lower() in CHANGES:
            self._step(" ".join(statement.split()[:3]), self._database_error)

    def _step(self, what: str, error: Callable[[], BaseException], path: Any = None) -> None:
        self.count += 1
        plan = self.plan
        due = self.count == plan.at or (plan.action == "ever" and self.count > plan.at)
        if plan.action == "stop":
            due = not self.hit and self.count >= plan.at and not self.transactions
        if plan.action == "count" or not due:
            return
        self.hit = self.hit or what
        if plan.action == "kill":
            if plan.torn and path is not None and os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        if plan.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        raise error()

    def _os_error(self) -> OSError:
        return OSError(self.plan.code, os.strerror(self.plan.code))

    def _database_error(self) -> sa.exc.OperationalError:
        said = "database or disk is full" if self.plan.code == errno.ENOSPC else "disk I/O error"
        return sa.exc.OperationalError("a statement", {}, sqlite3.OperationalError(said))
