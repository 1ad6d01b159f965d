"""Paths that begin with a home directory: where no shell has written it out, it is done here."""

from __future__ import annotations

import os
from pathlib import Path


def home_path(text: str | Path) -> Path:
    """The path with the home directory written out; that of a user who is not there stays as it is: `Path.expanduser`
    raises RuntimeError for it."""
    return Path(os.path.expanduser(text))


def optional_path(text: str | None) -> Path | None:
    """The same of a path that need not be given."""
    return home_path(text) if text else None
