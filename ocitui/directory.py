"""Which cache is meant where none is named, and how a source's text goes on, for who starts without the core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

DEFAULT_DIRECTORY = Path("/var/lib/krata/cache/image")
"""Where krata's daemon keeps its cache."""

DIRECTORY_VARIABLE = "OCITUI_CACHE"


def default_directory() -> Path:
    """The directory that the environment names, else the daemon's."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


class Mirror(NamedTuple):
    """What a directory of ours stands for that holds facts of another host's cache: ``host`` as its operator names it,
    ``node`` as it names itself, the ``directory`` there, and when it was asked, in seconds since the epoch. The rest is
    what a program there is told by its system: of each name its stat, or the error of reading it; the file system;
    whether it may write, a writer of ours is at work, anybody listens at the daemon's socket; what Xen's tools print.
    Below ``root`` lie `proc` and `sys`, as far as they tell of the cache."""

    host: str
    node: str
    directory: str
    root: Path
    asked: float
    stats: Mapping[str, os.stat_result]
    unread: Mapping[str, int]
    device: int
    space: os.statvfs_result
    writable: bool
    locked: bool
    listens: bool | None
    domains: tuple[Sequence[str], Sequence[str]] | None


_mirrors: dict[Path, Mirror] = {}


def stand_for(directory: Path, mirror: Mirror | None) -> None:
    """Note what a directory stands for; None: nothing any more."""
    _mirrors.pop(directory, None)
    if mirror is not None:
        _mirrors[directory] = mirror


def mirror_of(directory: Path) -> Mirror | None:
    """What a directory stands for; None for one that is only itself."""
    return _mirrors.get(directory) if _mirrors else None


def as_there(text: str) -> str:
    """The text with the paths that are meant in place of those of mirrors."""
    for directory, mirror in _mirrors.items():
        text = text.replace(str(directory), mirror.directory).replace(str(mirror.root), "")
    return text


def space_of(directory: Path) -> os.statvfs_result:
    """The file system of a cache. Raises OSError."""
    mirror = mirror_of(directory)
    return os.statvfs(directory) if mirror is None else mirror.space


# These are known to the importing library too, which is a heavy import; a test holds them together.
FILE_PREFIXES = ("oci:", "oci-archive:", "docker-archive:", "packed:", "cache:")
PREFIXES = (*FILE_PREFIXES, "docker://")


def paths_from(begun: str) -> Iterator[str]:
    """The paths that begin so, in order, a directory with a slash; without names that no shell or field can show."""
    folder, _, name = begun.rpartition("/")
    place = f"{folder}/" if "/" in begun else ""
    with suppress(OSError), os.scandir(os.path.expanduser(place) or ".") as found:
        for entry, is_folder in sorted((one.name, one.is_dir()) for one in found if one.name.startswith(name)):
            if entry.isprintable() and (name or not entry.startswith(".")):
                yield f"{place}{entry}{'/' if is_folder else ''}"
