"""Which cache is meant where none is named, and how a source's text goes on, for who starts without the core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

DEFAULT_DIRECTORY = Path("/var/lib/krata/cache/image")
"""Where krata's daemon keeps its cache."""

DIRECTORY_VARIABLE = "OCITUI_CACHE"


FAR = "ssh://"
"""What the name of another host's cache begins with."""


def default_place() -> Path | str:
    """The cache that is meant: a directory, or the text that names another host's."""
    named = os.environ.get(DIRECTORY_VARIABLE, "")
    return named if named.startswith(FAR) else default_directory()


def default_directory() -> Path:
    """The directory that the environment names, else the daemon's."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


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
