"""`ocitui demo`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click

from .demo_cache import make_demo_cache
from .exits import ExitCode
from .output import is_terminal, say


class NowhereToShowError(click.UsageError):
    """There is no terminal for the screen."""

    hint = "ocitui demo --keep only makes the cache, for other commands"

    def __init__(self) -> None:
        super().__init__("there is no terminal to show the demo on")


def run_demo(keep: bool, theme: str | None, *, mouse: bool) -> int:
    """Make the demo's cache, open the screen on it, and remove it unless it is to be kept; gives the screen's status.

    Raises NowhereToShowError without a terminal, unless the cache is to be kept.
    """
    shown = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    if not shown and not keep:
        raise NowhereToShowError
    place = Path(tempfile.mkdtemp(prefix="ocitui-demo-"))
    directory = place / "cache" / "image"
    status: int = ExitCode.CLEAN
    try:
        make_demo_cache(directory)
        if shown:
            status = _open_screen(directory, theme, mouse)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    say(f"the demo's cache is in {directory}" if keep else f"the demo's cache was in {directory}, and is removed")
    return status


def _open_screen(directory: Path, theme: str | None, mouse: bool) -> int:
    from ocitui.tui.app import run_screen
    from ocitui.tui.session import ScreenOptions

    return run_screen(ScreenOptions(directory=directory, theme=theme, mouse=mouse))
