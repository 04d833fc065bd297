"""The root of the command line: sections in its help, suggestions for a mistyped command, exit codes."""

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from penstock.cli.answer import INTERRUPTED, interrupted, print_error

QUIET = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"}
"""Set for this process where they are not set: nothing we run may call home."""


class Penstock(click.Group):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        help_text = (
            "Keeps a language-model recommender fresh: learns in rounds, through gates, and swaps what is served."
        )
        super().__init__(help=help_text, context_settings={"help_option_names": ["-h", "--help"]}, **attributes)
        self.sections: dict[str, list[str]] = {}
        click.version_option(package_name="penstock", message="%(prog)s %(version)s")(self)

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands under a headline of the help."""
        self.sections[title] = [str(command.name) for command in commands]
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every section with its commands, one line each."""
        width = max(map(len, self.commands), default=0)
        for title, names in self.sections.items():
            with formatter.section(title):
                limit = formatter.width - 6 - width
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in names]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or an error that names the closest ones."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands)
            hint = f"did you mean {' or '.join(near)}?" if near else "see penstock --help"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command and leave with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(words, prog_name, complete_var, False, **extra)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            code = super().main(words, prog_name, complete_var, False, **extra)
        except click.ClickException as error:
            self._refuse(error, "--json" in words)
        except (click.Abort, KeyboardInterrupt):
            interrupted("--json" in words)
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def _refuse(self, error: click.ClickException, as_json: bool) -> NoReturn:
        error.show()
        if as_json:
            print_error(type(error).__name__, error.format_message())
        sys.exit(error.exit_code)
