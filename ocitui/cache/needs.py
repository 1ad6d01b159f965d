"""What of the index and the directory goes when entries go, and what stays for others."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .descriptors import Descriptor
from .disk import Folder
from .files import config_name, file_names, known_format, manifest_name, usable_digest
from .formats import PackedFormat
from .index import ImageIndex, Key
from .records import Removed

# Past so many entries one listing of the directory is cheaper than a look at each of their files.
_MANY = 500


def needed(index: ImageIndex, name: str) -> bool:
    """Whether an entry of the index has this file."""
    for format_ in PackedFormat:
        for digest in {name.removesuffix(f".{format_}")} - {name}:
            if index.by_key(digest, format_) is not None:
                return True
    for suffix in (manifest_name(""), config_name("")):
        digest = name.removesuffix(suffix)
        if digest != name and any(index.by_key(digest, format_) for format_ in PackedFormat):
            return True
    return False


def discardable(root: Folder, index: ImageIndex, keys: Collection[Key]) -> tuple[list[str], list[str]]:
    """The files that nothing needs once entries of these keys are gone, and those that stay for other formats.

    ``index`` is the one without them. A packed file that no entry names keeps its documents too.
    """
    gone: dict[str, None] = {}
    kept: dict[str, None] = {}
    is_there = _presence(root, len(keys))
    for digest, format_annotation in keys:
        format_ = known_format(format_annotation)
        if format_ is None or not usable_digest(digest):
            continue
        packed, *documents = file_names(digest, format_).values()
        gone[packed] = None
        others = [other for other in PackedFormat if (digest, other) not in keys and other is not format_]
        shared = any(index.by_key(digest, other) or is_there(f"{digest}.{other}") for other in others)
        (kept if shared else gone).update(dict.fromkeys(documents))
    return [name for name in gone if name not in kept and is_there(name)], [name for name in kept if is_there(name)]


def _presence(root: Folder, entries: int) -> Callable[[str], bool]:
    """Whether a name is in the directory, asked for the files of this many entries."""
    if entries > _MANY:
        return set(root.names()).__contains__
    return lambda name: root.lstat(name) is not None


def removals(index: ImageIndex, keys: Collection[Key]) -> list[Removed]:
    """The entries of these keys, each with the next entry that stays and the gap that goes with it."""
    return removals_at(index, {at for at, descriptor in enumerate(index.descriptors) if descriptor.key in keys})


def removals_at(index: ImageIndex, positions: Collection[int]) -> list[Removed]:
    """The same for the entries at these positions."""
    removed: list[Removed] = []
    descriptors = index.descriptors
    first_kept = next((at for at in range(len(descriptors)) if at not in positions), len(descriptors))
    before: Descriptor | None = None
    for position in range(len(descriptors) - 1, -1, -1):
        descriptor = descriptors[position]
        if position in positions:
            gap = index.gap(position if position < first_kept else position - 1)
            neighbour = None if before is None else before.raw.decode()
            removed.append(Removed(descriptor.raw.decode(), position, neighbour, gap.decode() if gap else None))
        else:
            before = descriptor
    return removed[::-1]
