"""feed brings a folder's files in once, says what it refused, and stops cleanly on Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


def line(number: int, kind: str = "click") -> str:
    row = {"event_id": f"e{number}", "user_id": "u", "item_id": "i", "kind": kind, "at": "2026-03-02T12:00:00Z"}
    return json.dumps(row) + "\n"


def test_a_folder_is_taken_once_and_what_is_no_event_can_be_tried_again(
    run: Any, answer: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "in").mkdir()
    (place / "in" / "a.jsonl").write_text(line(1) + line(2) + line(2) + line(3, "share") + "{\n")
    first = answer("feed", "files:in", "--once", code=1)
    counts = {name: first[name] for name in ("read", "accepted", "duplicates", "refused", "pending")}
    assert counts == {"read": 5, "accepted": 2, "duplicates": 1, "refused": 2, "pending": 2}
    again = answer("feed", "files:in", "--once")
    assert (again["read"], again["refused_held"]) == (0, 2)
    held = answer("refused", "list")
    assert [one["place"].rsplit("/")[-1] for one in held["messages"]] == ["a.jsonl:4", "a.jsonl:5"]
    assert "kind is 'share'" in run("refused", "list").stdout
    gains = {"impression": 0, "history": 0, "click": 1, "purchase": 1, "rating": 1, "label": 1, "share": 1}
    monkeypatch.setenv("PENSTOCK__DATA__GAINS", json.dumps(gains))
    assert answer("refused", "retry") == {"tried": 2, "accepted": 1, "duplicates": 0, "held": 1}


def test_an_address_that_is_none(answer: Any) -> None:
    assert "is no address of a source" in answer("feed", "smtp:me", code=1)["error"]["message"]


def test_ctrl_c_ends_it_also_where_somebody_swallowed_it(
    answer: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.data.sources.files import FileSource

    (place / "in").mkdir()
    (place / "in" / "a.jsonl").write_text(line(1))
    poll = FileSource.poll

    def interrupted(self: FileSource, limit: int, wait_s: float) -> Any:
        with suppress(KeyboardInterrupt):  # as Python does where it comes in a destructor
            signal.raise_signal(signal.SIGINT)
        return poll(self, limit, wait_s)

    monkeypatch.setattr(FileSource, "poll", interrupted)
    said = answer("feed", "files:in", code=130)
    assert (said["accepted"], said["stopped"]) == (1, True)


def test_ctrl_c_ends_it_with_what_was_taken(place: Path) -> None:
    (place / "in").mkdir()
    (place / "in" / "a.jsonl").write_text(line(1) + line(2))
    command = [sys.executable, "-m", "penstock.cli", "feed", "files:in", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert child.stderr is not None
    assert "messages 2" in child.stderr.readline()
    time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    said = json.loads(stdout)
    assert (said["accepted"], said["stopped"], said["pending"]) == (2, True, 2)
    assert "Traceback" not in stderr
