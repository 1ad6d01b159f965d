"""What an index should hold that was lost: what is left of it, the newest backup and the files, joined in order.

The order is meaning, as the last entry of a name wins it: entries that are left keep theirs, what a backup alone holds
goes where it stood there, and what only the files tell comes last, by the times of the manifests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    CacheError,
    Descriptor,
    ImageIndex,
    ImageName,
    InvalidNameError,
    Transaction,
    TransactionState,
    list_backups,
    read_backup,
)
from ocitui.cache.index import Key

from ..holdings import Holdings
from ..salvage import Salvage, salvage
from .adopting import described
from .descriptors import name_annotations
from .scene import Scene

Identity = tuple[str, str | None, str | None]


class Origin(StrEnum):
    """Where an entry of the joined index comes from."""

    INDEX = "the index"
    BACKUP = "the backup"
    FILES = "the files"


@dataclass(frozen=True, slots=True)
class JoinedEntry:
    """One entry of the joined index: a name that only the operator tells is ``given``."""

    descriptor: Descriptor
    origin: Origin
    given: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """``entries`` in order. ``kept`` is when the backup was made, in seconds since the epoch (0: there is none).

    ``refused`` are descriptors that the daemon's types refuse, verbatim."""

    entries: tuple[JoinedEntry, ...]
    kept: float = 0.0
    refused: tuple[bytes, ...] = ()

    @property
    def descriptors(self) -> list[Descriptor]:
        return [entry.descriptor for entry in self.entries]

    @property
    def nameless(self) -> list[Descriptor]:
        """Entries whose name nothing tells any more."""
        return [entry.descriptor for entry in self.entries if entry.descriptor.image_name is None]


def join(scene: Scene, transactions: Sequence[Transaction], names: dict[str, str]) -> Joined:
    """Join what there is; ``names`` are what the operator gives, by digest. Raises CacheDirectoryError."""
    found = salvage(scene.data) if scene.index is None and scene.data else Salvage(0, (), ())
    left = scene.descriptors if scene.index is not None else found.descriptors
    kept, backup = _newest_backup(scene, left)
    gone = _taken_out(transactions, kept)
    backed = [descriptor for descriptor in backup if descriptor.key not in gone]
    entries = merged(left, backed)
    there = {entry.descriptor.key for entry in entries}
    refused = tuple(item.raw for item in found.refused)
    known = {**_names_of(refused), **names}
    entries += _from_files(scene, there, kept, known, names)
    return Joined(tuple(entries), kept, refused)


def merged(left: Sequence[Descriptor], backup: Sequence[Descriptor]) -> list[JoinedEntry]:
    """What is left in its order, and what only the backup holds, each behind what it stood behind there."""
    keys = {descriptor.key for descriptor in left}
    behind: dict[Key | None, list[Descriptor]] = {}
    before: Key | None = None
    for descriptor in backup:
        if descriptor.key in keys:
            before = descriptor.key
        else:
            behind.setdefault(before, []).append(descriptor)
    entries = [JoinedEntry(descriptor, Origin.BACKUP) for descriptor in behind.pop(None, ())]
    for descriptor in left:
        entries.append(JoinedEntry(descriptor, Origin.INDEX))
        entries += [JoinedEntry(one, Origin.BACKUP) for one in behind.pop(descriptor.key, ())]
    return entries


def _newest_backup(scene: Scene, left: Sequence[Descriptor]) -> tuple[float, list[Descriptor]]:
    """The newest backup that holds what is not left, and when it was made; none where there is no such one."""
    keys = {descriptor.key for descriptor in left}
    try:
        backups = list_backups(scene.directory)
    except CacheError:
        return 0.0, []
    newest = backups[0].kept if backups else 0.0
    for backup in backups:
        try:
            descriptors = ImageIndex.parse(read_backup(scene.directory, backup)).descriptors
        except CacheError:
            continue
        if any(descriptor.key not in keys for descriptor in descriptors):
            return backup.kept, descriptors
    return newest, []


def _taken_out(transactions: Iterable[Transaction], since: float) -> set[Key]:
    """What transactions of ours took out of the index after a moment, and did not put in again."""
    gone: set[Key] = set()
    for transaction in sorted(transactions, key=lambda one: one.id):
        if transaction.started >= since and transaction.state in (TransactionState.DONE, TransactionState.EMPTIED):
            gone |= {one.descriptor.key for one in transaction.removed}
            gone -= {one.descriptor.key for one in transaction.added}
    return gone


def _names_of(refused: Iterable[bytes]) -> dict[str, str]:
    """The names that can still be read in descriptors that the daemon refuses, by digest."""
    names: dict[str, str] = {}
    for raw in refused:
        try:
            found = msgspec.json.decode(raw)
            digest, name = found["digest"], found["annotations"][ANNOTATION_IMAGE_NAME]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if isinstance(digest, str) and isinstance(name, str):
            names[digest] = name
    return names


def _from_files(
    scene: Scene, there: set[Key], kept: float, names: dict[str, str], given: dict[str, str]
) -> list[JoinedEntry]:
    """Entries whole on disk that nothing else tells of. Those older than the backup were none when it was made."""
    holdings = Holdings(scene.facts)
    found: list[tuple[int, JoinedEntry]] = []
    for digest in holdings.digests():
        if not holdings.has_documents(digest):
            continue
        for form in holdings.formats(digest):
            fact = scene.facts[f"{digest}.{form}"]
            asked_for = digest in given
            if (digest, form) in there or (fact.changed_ns < kept * 1e9 and not asked_for):
                continue
            descriptor = _rebuilt(scene.directory, digest, form, names.get(digest))
            if descriptor is not None:
                moment = scene.facts[f"{digest}.manifest.json"].modified_ns
                found.append((moment, JoinedEntry(descriptor, Origin.FILES, asked_for)))
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].descriptor.digest))]


def _rebuilt(directory: Path, digest: str, form: str, name: str | None) -> Descriptor | None:
    """A descriptor of what the files tell; None where they are not what they have to be."""
    try:
        made = described(directory, digest, form)
        annotations = {ANNOTATION_PACKED_FORMAT: form}
        if name is not None:
            annotations |= dict(name_annotations(ImageName.parse(name)))
        return made.with_annotations(annotations)
    except InvalidNameError:
        return made.with_annotations({ANNOTATION_PACKED_FORMAT: form})
    except (CacheError, OSError):
        return None
