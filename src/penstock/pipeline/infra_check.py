"""The other end of serving.infra_check: start the process early, hand it the finished bundle, wait for its verdict.

Starting costs a second of imports, which pass while the round exports; what a round waits for is the loading.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from penstock.evaluation.infra import InfraVerdict
from penstock.settings import Settings

CHILD = "penstock.serving.infra_check"
USERS = 8
K = 10
SAID_CHARS = 400


class InfraCheck:
    """A fresh process that waits for a bundle; use as a context, so that it never outlives the round."""

    def __init__(self, settings: Settings, module: str = CHILD) -> None:
        self.settings, self.module = settings, module

    def __enter__(self) -> "InfraCheck":
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        self._process.wait()
        self._said.close()

    def ask(self, bundle: Path, digest: str) -> None:
        """Hand over the finished bundle; the check runs from here while the round goes on."""
        request = {
            "folder": str(bundle),
            "digest": digest,
            "k": K,
            "candidates": self.settings.service.candidates,
            "users": USERS,
        }
        self._started_s = time.monotonic()
        self._line = json.dumps(request).encode() + b"\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(self._line)
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it died already: the verdict says how

    def verdict(self) -> InfraVerdict:
        """What the process found; a crash, silence or overtime is a verdict too, and never a good one."""
        limit_s = self.settings.gates.infra_timeout_s
        left_s = max(self._started_s + limit_s - time.monotonic(), 0.0)
        try:
            answer, _ = self._process.communicate(timeout=left_s)
        except subprocess.TimeoutExpired:
            return InfraVerdict.failed(f"no answer within {limit_s:g} s (gates.infra_timeout_s)")
        code = self._process.returncode
        if code != 0:
            how = f"signal {-code}" if code < 0 else f"code {code}"
            return InfraVerdict.failed(f"the process ended with {how}, saying: {self._last_words()}")
        try:
            return InfraVerdict.read(json.loads(answer))
        except (ValueError, KeyError, TypeError) as error:
            said = answer[:SAID_CHARS].decode(errors="replace")
            return InfraVerdict.failed(f"the process answered {said!r}, which is no verdict ({error!r})")

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()[-SAID_CHARS:] or "nothing"
