"""`ocitui demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..options import NoTerminalError, no_mouse_option, theme_option
from ..output import ExitCode, is_terminal, say


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the cache there; without a terminal it is only made.")
@theme_option
@no_mouse_option
def demo_command(keep: bool, theme: str | None, no_mouse: bool) -> int:
    """Make a small cache with a few faults in it, in a temporary directory, and open it."""
    import shutil
    import tempfile

    from ..demo_cache import make_demo_cache, record_demo_sources

    shown = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    if not shown and not keep:
        hint = "ocitui demo --keep only makes the cache, for other commands"
        raise NoTerminalError("there is no terminal to show the demo on", hint)
    place = Path(tempfile.mkdtemp(prefix="ocitui-demo-"))
    directory = place / "cache" / "image"
    status: int = ExitCode.CLEAN
    try:
        make_demo_cache(directory)
        record_demo_sources(directory)
        if shown:
            from ocitui.tui import ScreenOptions, run_screen

            status = run_screen(ScreenOptions(directory=directory, theme=theme, mouse=not no_mouse))
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    say(f"the demo's cache is in {directory}" if keep else f"the demo's cache was in {directory}, and is removed")
    return status
