"""The screen: it shows what the core says, and asks the core to act."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .actions import keys_text as keys_text
    from .app import run_screen as run_screen
    from .session import ScreenOptions as ScreenOptions
