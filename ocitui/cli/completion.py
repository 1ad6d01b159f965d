"""Completion, as click makes it for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class, shell_complete

PROGRAM = "ocitui"
COMPLETION_VARIABLE = "_OCITUI_COMPLETE"


def completion_script(command: click.Command, shell: str) -> str:
    """The script that a shell evaluates. Raises LookupError for a shell that click does not know."""
    made = get_completion_class(shell)
    if made is None:
        raise LookupError(shell)
    return made(command, {}, PROGRAM, COMPLETION_VARIABLE).source()


def complete(command: click.Command, instruction: str) -> int:
    """Answer the script's question; gives the status to exit with."""
    return shell_complete(command, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
