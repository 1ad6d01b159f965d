"""Permission bits changed, and changed back: of regular files and directories, never through a link."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from .disk import Folder
from .records import Mode
from .workspace import Workspace


def mode_of(root: Folder, name: str) -> int | None:
    """The permission bits of a regular file or directory; None for anything else."""
    found = root.lstat(name)
    if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    return stat.S_IMODE(found.st_mode)


def set_modes(space: Workspace, modes: Sequence[Mode]) -> None:
    """Change each that still has its old bits."""
    for mode in modes:
        if mode_of(space.root, mode.name) == mode.old:
            space.disk.change_mode(space.root, mode.name, mode.new)


def unset_modes(space: Workspace, modes: Sequence[Mode]) -> None:
    """Change back each that has its new bits."""
    for mode in reversed(modes):
        if mode.new != mode.old and mode_of(space.root, mode.name) == mode.new:
            space.disk.change_mode(space.root, mode.name, mode.old)
