"""The screen: it shows what the core says, and asks the core to act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.front import front

if TYPE_CHECKING:
    from .actions import keys_text as keys_text
    from .app import run_screen as run_screen
    from .session import ScreenOptions as ScreenOptions

__getattr__, __dir__, __all__ = front(
    __name__, {"actions": "keys_text", "app": "run_screen", "session": "ScreenOptions"}
)
