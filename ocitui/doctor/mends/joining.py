"""What an index should hold that was lost: its three sources brought together for `sources.join`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    CacheError,
    Descriptor,
    ImageName,
    InvalidNameError,
    Transaction,
    list_backups,
)

from ..descriptor_checks import Identity
from ..history import History
from ..rebuild import FoundEntry, rebuild
from ..salvage import Salvage, salvage
from ..sources import JoinedEntry, Source, join
from .scene import Scene


@dataclass(frozen=True, slots=True)
class Joined:
    """``entries`` in the order of the new index, those that no descriptor can be made for included."""

    entries: tuple[JoinedEntry, ...]

    @property
    def proposed(self) -> list[tuple[Descriptor, Source]]:
        """The descriptors of the new index, and where each is taken from."""
        return [(one.descriptor, one.taken_from) for one in self.entries if one.descriptor and one.taken_from]

    @property
    def nameless(self) -> list[str]:
        """The digests of entries whose name nothing tells any more."""
        return list(dict.fromkeys(one.digest for one in self.entries if one.descriptor and one.lost))


def join_sources(scene: Scene, history: History, names: Mapping[str, str]) -> Joined:
    """Join what is left of the index, the newest backup and the files; ``names`` are what the operator gives.

    Raises CacheDirectoryError.
    """
    left = scene.descriptors if scene.index is not None else salvage(scene.data or b"")
    gone = _taken_out(history.since)
    backup = [descriptor for descriptor in history.backup if _identity(descriptor) not in gone]
    known = {*backup, *(left.descriptors if isinstance(left, Salvage) else left)}
    given = {**(_names_of(left) if isinstance(left, Salvage) else {}), **names}
    files = _told_by_files(scene, {one.key for one in known}, _kept(scene, history), names)
    return Joined(tuple(join(left, backup, files, _by_key(files, given))))


def _told_by_files(
    scene: Scene, named: Collection[tuple[str, str | None]], kept: float, names: Collection[str]
) -> list[FoundEntry]:
    """What the files tell, less what would not be whole, and less what was an orphan when the backup was made."""
    return [
        found
        for found in rebuild(scene.directory)
        if found.key in named
        or (
            found.sound
            and (found.digest in names or scene.facts[f"{found.digest}.{found.format}"].changed_ns > kept * 1e9)
        )
    ]


def _kept(scene: Scene, history: History) -> float:
    """When the backup was made, in seconds since the epoch; 0 where there is none."""
    with suppress(CacheError):
        for backup in list_backups(scene.directory):
            if history.backup and backup.entries == len(history.backup):
                return backup.kept
    return 0.0


def _taken_out(transactions: Iterable[Transaction]) -> set[Identity]:
    """What transactions of ours took out of the index, and did not put in again."""
    gone: set[Identity] = set()
    for transaction in sorted(transactions, key=lambda one: one.id):
        gone |= {_identity(one.descriptor) for one in transaction.removed}
        gone -= {_identity(one.descriptor) for one in transaction.added}
    return gone


def _identity(descriptor: Descriptor) -> Identity:
    return descriptor.digest, descriptor.format, descriptor.image_name


def _names_of(left: Salvage) -> dict[str, str]:
    """The names in whole descriptors that the daemon refuses, by digest: both stand in the same object."""
    names: dict[str, str] = {}
    for item in left.refused:
        try:
            found = msgspec.json.decode(item.raw)
            digest, name = found["digest"], found["annotations"][ANNOTATION_IMAGE_NAME]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if isinstance(digest, str) and isinstance(name, str):
            names[digest] = name
    return names


def _by_key(files: Iterable[FoundEntry], names: Mapping[str, str]) -> dict[tuple[str, str], ImageName]:
    found: dict[tuple[str, str], ImageName] = {}
    for one in files:
        with suppress(InvalidNameError):
            if one.digest in names:
                found[one.key] = ImageName.parse(names[one.digest])
    return found
