"""Which cache is meant where none is named. Imports nothing, for commands that start without the core."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_DIRECTORY = Path("/var/lib/krata/cache/image")
"""Where krata's daemon keeps its cache."""

DIRECTORY_VARIABLE = "OCITUI_CACHE"


def default_directory() -> Path:
    """The directory that the environment names, else the daemon's."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)
