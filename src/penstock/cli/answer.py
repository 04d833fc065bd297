"""What every command has in common: --json, where things are printed, and how errors end a command.

A command returns an Answer: one plain dict, and how a person would like to read it. Under --json stdout belongs to
that dict alone: whatever a library prints meanwhile goes to stderr.
"""

import contextlib
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from penstock.cli.screen import Screen
from penstock.errors import PenstockError

INSTALL = "run `make setup`, or pip install -c constraints.txt -e '.[learn]'"
FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True)
class Answer:
    """A command's result. `show` prints it for a person; `code` is the exit code."""

    data: dict[str, Any]
    show: Callable[[Screen], None]
    code: int = 0


class Output:
    """Where a command's one answer goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.answered = False
        self._stdout = sys.stdout

    @contextmanager
    def own_stdout(self) -> Iterator[None]:
        """Under --json, keep everything but the answer off stdout."""
        with contextlib.redirect_stdout(sys.stderr) if self.as_json else contextlib.nullcontext():
            yield

    def print(self, answer: Answer) -> None:
        """Print the answer; a command that keeps running calls this itself."""
        self.answered = True
        if self.as_json:
            click.echo(as_text(answer.data), file=self._stdout)
            self._stdout.flush()
        else:
            answer.show(Screen())

    def fail(self, kind: str, message: str) -> None:
        """The error on stderr, and as the object on stdout where none was printed yet."""
        click.secho(f"{kind}: {message}", fg="red", err=True)
        if self.as_json and not self.answered:
            print_error(kind, message)


def as_text(data: Any) -> str:
    """One JSON object on one line; a number that is not finite becomes null."""
    from penstock.records import plain_json

    return json.dumps(plain_json(_plain(data)), ensure_ascii=False, allow_nan=False)


def print_error(kind: str, message: str) -> None:
    """The JSON object of a command that failed."""
    click.echo(json.dumps({"error": {"kind": kind, "message": message}}, ensure_ascii=False))


def interrupted(as_json: bool) -> None:
    """Say that the person stopped it."""
    click.echo("interrupted", err=True)
    if as_json:
        print_error("Interrupted", "stopped from the keyboard; what was committed stays")


def command(
    name: str, *options: Callable[[Any], Any], **attributes: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command.

    Args:
        options: click options and arguments, in the order of the help.
        attributes: for click.Command.

    The function takes an Output and its options by name, and returns an Answer, or None once it has printed one.
    """

    def decorate(function: Callable[..., Answer | None]) -> click.Command:
        @functools.wraps(function)
        def run(as_json: bool, **values: Any) -> None:
            click.get_current_context().exit(_run(function, Output(as_json), values))

        json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
        made: Any = json_option(run)
        for option in reversed(options):
            made = option(made)
        return click.command(name, click.Command, **attributes)(made)

    return decorate


def _run(function: Callable[..., Answer | None], output: Output, values: dict[str, Any]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("penstock").setLevel(logging.INFO)
    try:
        with output.own_stdout():
            answer = function(output, **values)
        if answer is not None:
            output.print(answer)
        return 0 if answer is None else answer.code
    except PenstockError as error:
        output.fail(type(error).__name__, str(error))
        return FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("penstock"):
            raise
        output.fail("DependencyMissing", f"package {error.name} is not installed and this command needs it; {INSTALL}")
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        output.fail("OSError", f"{error.filename or 'input or output'}: {error.strerror or error}; see that it is "
                    "there, that this user may use it, and that the disk is not full")  # fmt: skip
        return FAILED
    except KeyboardInterrupt:
        interrupted(output.as_json and not output.answered)
        return INTERRUPTED


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
