"""Which files of entries a directory holds, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ocitui.cache import Descriptor, FileKind, PackedFormat
from ocitui.cache.files import config_name, manifest_name

from .descriptor_checks import valid_digest

_SUFFIXES: dict[str, FileKind | PackedFormat] = {
    manifest_name("")[1:]: FileKind.MANIFEST,
    config_name("")[1:]: FileKind.CONFIG,
    **{str(format_): format_ for format_ in PackedFormat},
}
_ENDINGS = "|".join(re.escape(suffix) for suffix in _SUFFIXES)
_USUAL = re.compile(rf"(sha256:[0-9a-f]{{64}})\.({_ENDINGS})").fullmatch
_USUAL_LENGTH = 71
_ANY = re.compile(rf"([^/]+:[^/]+)\.({_ENDINGS})").fullmatch
_BITS = {suffix: 1 << at for at, suffix in enumerate(_SUFFIXES)}
_DOCUMENTS = _BITS[manifest_name("")[1:]] | _BITS[config_name("")[1:]]
_PACKED = sum(_BITS[format_] for format_ in PackedFormat)


def part_of(name: str) -> tuple[str, FileKind | PackedFormat] | None:
    """The digest, and the kind of document or the format; None for a name that no entry's file has."""
    found = _USUAL(name) or _ANY(name)
    if found is None or (len(found[1]) != 71 and not valid_digest(found[1])):
        return None
    return found[1], _SUFFIXES[found[2]]


class Holdings:
    """Digests and what there is of each; kept up to date name by name."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._held: dict[str, int] = {}
        self.others: set[str] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        digest, suffix = name[:_USUAL_LENGTH], name[_USUAL_LENGTH + 1 :]
        held, bit = self._held.get(digest), _BITS.get(suffix)
        if held is not None and bit is not None and name[_USUAL_LENGTH] == ".":
            self._held[digest] = held | bit
            return
        found = _USUAL(name)
        if found is not None:
            digest, suffix = found.groups()
        elif (part := part_of(name)) is not None:
            digest, suffix = part[0], name[len(part[0]) + 1 :]
        else:
            self.others.add(name)
            return
        self._held[digest] = self._held.get(digest, 0) | _BITS[suffix]

    def remove(self, name: str) -> None:
        self.others.discard(name)
        part = part_of(name)
        if part is None:
            return
        digest = part[0]
        left = self._held.get(digest, 0) & ~_BITS[name[len(digest) + 1 :]]
        if left:
            self._held[digest] = left
        else:
            self._held.pop(digest, None)

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    @property
    def files(self) -> int:
        return sum(held.bit_count() for held in self._held.values())

    @property
    def complete(self) -> int:
        """How many packed files have both documents beside them."""
        return sum((held & _PACKED).bit_count() for held in self._held.values() if held & _DOCUMENTS == _DOCUMENTS)

    def digests(self) -> list[str]:
        return list(self._held)

    def has_documents(self, digest: str) -> bool:
        """Whether both are there."""
        return self._held.get(digest, 0) & _DOCUMENTS == _DOCUMENTS

    def formats(self, digest: str) -> list[PackedFormat]:
        """The formats of its packed files."""
        held = self._held.get(digest, 0)
        return [format_ for format_ in PackedFormat if held & _BITS[format_]] if held & _PACKED else []

    def documents(self, digest: str) -> list[FileKind]:
        held = self._held.get(digest, 0)
        return [kind for suffix, kind in _SUFFIXES.items() if isinstance(kind, FileKind) and held & _BITS[suffix]]

    def unnamed(self, named: dict[str, int]) -> list[str]:
        """The digests of which there is more than ``named`` has formats for, as `format_bits` counts them."""
        get = named.get
        return [
            digest for digest, held in self._held.items() if held & _PACKED & ~get(digest, 0) or digest not in named
        ]


def named_bits(descriptors: Iterable[Descriptor], named: dict[str, int]) -> None:
    """Add the formats that descriptors name to those of their digests."""
    get, bits = named.get, _BITS.get
    for descriptor in descriptors:
        digest = descriptor.digest
        named[digest] = get(digest, 0) | (bits(descriptor.format or "", _PACKED) & _PACKED or _PACKED)


def format_bits(formats: Iterable[str | None]) -> int:
    """Formats as one number; one that is not known stands for all."""
    bits = 0
    for format_ in formats:
        bits |= _BITS.get(format_ or "", _PACKED) & _PACKED or _PACKED
    return bits
