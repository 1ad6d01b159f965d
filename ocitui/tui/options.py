"""What the command line asks of the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """``theme`` is dark, light or ansi, None to choose by the terminal; ``wait`` is seconds to wait for the lock."""

    directory: Path
    read_only: bool = False
    theme: str | None = None
    mouse: bool = True
    wait: float = 0.0
