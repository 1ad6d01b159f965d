"""`python -m ocitui`, and the program `ocitui`."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

_ALLOCATIONS = 100_000
"""How many objects that hold others come between two collections, of a command and until the screen stands."""


def main() -> NoReturn:
    """Run the command line on this program's arguments; exits with its status."""
    from ocitui.last_resort import guarded

    status = guarded(lambda: _run(sys.argv[1:]))
    # Nobody needs the memory that a last collection would find: it is an eighth of a short command's time.
    gc.freeze()
    raise SystemExit(status)


def _run(arguments: list[str]) -> int:
    # What is loaded stays: to look through it for what may go, again and again, is a thirtieth of a short command,
    # and a tenth of the time until the screen stands.
    gc.set_threshold(_ALLOCATIONS)
    if _is_plain(arguments):
        return _open_screen(arguments)
    from ocitui.cli.main import run

    return run(arguments)


def _is_plain(arguments: list[str]) -> bool:
    """Whether the screen is asked for plainly, on a directory: a parser makes its start a tenth longer. A slash is in
    no command."""
    from ocitui.directory import FAR, default_place

    named = arguments[0] if arguments else str(default_place())
    plain = len(arguments) < 2 and "/" in named and not (named.startswith(("-", FAR)) or os.path.isfile(named))
    has_terminal = bool(sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty())
    return plain and "_OCITUI_COMPLETE" not in os.environ and has_terminal


def _open_screen(arguments: list[str]) -> int:
    from pathlib import Path

    from ocitui.directory import default_directory
    from ocitui.tui import ScreenOptions, run_screen

    return run_screen(ScreenOptions(Path(arguments[0]) if arguments else default_directory()))


if __name__ == "__main__":
    main()
