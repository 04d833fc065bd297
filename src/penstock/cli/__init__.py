"""The command line. Importing it costs click and nothing else; a command imports what it needs when it runs."""

from penstock.cli import (
    data,
    decisions,
    explaining,
    feeding,
    learning,
    privacy,
    quarantine,
    reference,
    replay,
    report,
    rollouts,
    running,
    tokens,
    versioned,
)
from penstock.cli.group import Penstock

__all__ = ["main"]

EPILOG = """\b
Completion of commands and options, in the shell's start-up file:
  bash  eval "$(_PENSTOCK_COMPLETE=bash_source penstock)"
  zsh   eval "$(_PENSTOCK_COMPLETE=zsh_source penstock)"
  fish  _PENSTOCK_COMPLETE=fish_source penstock | source

\b
Every command takes --json: one object on stdout, everything else on stderr.
Settings: params.yaml, or PENSTOCK__SECTION__KEY in the environment.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

main = Penstock(name="penstock", epilog=EPILOG)
main.add_section("Running", (*running.COMMANDS, *replay.COMMANDS, *reference.COMMANDS))
main.add_section(
    "Data", (*data.COMMANDS, *feeding.COMMANDS, *quarantine.COMMANDS, *privacy.COMMANDS, *versioned.COMMANDS)
)
main.add_section("Learning", learning.COMMANDS)
main.add_section(
    "Versions and decisions",
    (*decisions.COMMANDS, *rollouts.COMMANDS, *report.COMMANDS, *explaining.COMMANDS, *tokens.COMMANDS),
)
