"""One digest's entries, quickly: their three files and what the documents say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ocitui.cache import Descriptor, FileKind, PackedFormat
from ocitui.cache.files import packed_name

from .catalogue import CATALOGUE
from .descriptor_checks import Where, valid_digest, where
from .document_checks import Carriers, DocumentChecks, document_place
from .files import CacheFiles, Facts
from .findings import Finding
from .packed_checks import quick_standing

_FORMATS: dict[str | None, PackedFormat] = {str(format_): format_ for format_ in PackedFormat}


class PackedFile(NamedTuple):
    """A packed file that is there, for the deeper checks; ``size`` in bytes."""

    digest: str
    format: PackedFormat
    name: str
    size: int
    at: Where


class DigestCheck(NamedTuple):
    """What is wrong with the files of a digest, and which of its packed files can be looked into."""

    findings: tuple[Finding, ...]
    packed: tuple[PackedFile, ...]


def grouped(descriptors: Iterable[Descriptor]) -> dict[str, list[tuple[int, Descriptor]]]:
    """The descriptors of each digest that can have files, with their positions."""
    groups: dict[str, list[tuple[int, Descriptor]]] = {}
    for pair in enumerate(descriptors):
        digest = pair[1].digest
        group = groups.get(digest)
        if group is not None:
            group.append(pair)
        elif len(digest) == 71 or valid_digest(digest):
            groups[digest] = [pair]
    return {digest: group for digest, group in groups.items() if valid_digest(digest)}


def check_digest(files: CacheFiles, facts: Facts, digest: str, carriers: Carriers) -> DigestCheck:
    """The quick check of every file of a digest; reads its two documents."""
    documents = DocumentChecks(files, facts, digest, carriers, document_place(carriers)).run()
    findings, packed, lonely = list(documents.findings), list[PackedFile](), 0
    for format_, at in _formats(carriers):
        name = packed_name(digest, format_)
        fact = facts.get(name)
        if fact is not None and fact.plain and fact.size:
            packed.append(PackedFile(digest, format_, name, fact.size, at))
            continue
        found = quick_standing(files, fact, name, at)
        if found.finding is not None:
            if found.missing and len(documents.missing) == 2:
                lonely += 1
                findings.append(_nothing_there(name, at))
            else:
                findings.append(found.finding)
        elif found.size is not None:
            packed.append(PackedFile(digest, format_, name, found.size, at))
    if not lonely or packed:
        findings += documents.missing
    return DigestCheck(tuple(findings), tuple(packed))


def _formats(carriers: Carriers) -> Iterator[tuple[PackedFormat, Where]]:
    """Each format of the digest once, with the place of its first entry."""
    seen = set()
    for position, descriptor in carriers:
        format_ = _FORMATS.get(descriptor.format)
        if format_ is not None and format_ not in seen:
            seen.add(format_)
            yield format_, where(descriptor, position)


def _nothing_there(name: str, at: Where) -> Finding:
    seen = "none of its three files is there"
    return CATALOGUE["file-missing"].finding(seen, file=name, kind=FileKind.PACKED, **at)
