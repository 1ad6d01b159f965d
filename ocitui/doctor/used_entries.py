"""Which entries a loop device holds, for rows and filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ocitui.cache import Descriptor, Entry, FileKind
from ocitui.cache.listing import names_of

from .loop_devices import users_of


def users_by_name(directory: Path) -> dict[str, str]:
    """The loop devices that hold each file of the cache, as one text by the file's name."""
    return {name: ", ".join(use.device.name for use in uses) for name, uses in users_of(directory).items()}


def users_of_any(directory: Path, descriptors: Iterable[Descriptor]) -> tuple[str, ...]:
    """The loop devices that hold the packed file of any of these, also one that was deleted; each once, as paths."""
    users = users_of(directory)
    names = (packed_file(descriptor) for descriptor in descriptors)
    return tuple(dict.fromkeys(str(use.device) for name in names for use in users.get(name, ())))


def packed_file(descriptor: Descriptor) -> str:
    """The name of its packed file; empty where it can have none."""
    return names_of(descriptor).get(FileKind.PACKED, "")


def with_users(entries: Iterable[Entry], users: Mapping[str, str]) -> list[Entry]:
    """The entries with the loop devices that hold their packed files."""
    return [msgspec.structs.replace(entry, used=used_by(entry, users)) for entry in entries] if users else [*entries]


def used_by(entry: Entry, users: Mapping[str, str]) -> str:
    """The loop devices of one entry; empty where none holds its packed file."""
    return users.get(packed_file(entry.descriptor), "")
