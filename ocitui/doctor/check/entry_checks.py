"""One digest's entries, quickly: their three files and what the documents say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ocitui.cache import Descriptor, FileKind, PackedFormat

from ..catalogue import CATALOGUE
from ..findings import Finding
from .descriptor_checks import Where, valid_digest, where
from .directory import CacheFiles, Facts
from .document_checks import Carriers, DocumentChecks, document_place
from .file_checks import quick_standing

_FORMATS: dict[str | None, PackedFormat] = {str(format_): format_ for format_ in PackedFormat}
_ENDINGS = {format_: f".{format_}" for format_ in PackedFormat}


class PackedFile(NamedTuple):
    """A packed file that is there, for the deeper checks; ``size`` in bytes."""

    digest: str
    format: PackedFormat
    name: str
    size: int
    descriptor: Descriptor
    position: int | None

    @property
    def at(self) -> Where:
        """What a finding says of its entry: the first of this digest and format."""
        return where(self.descriptor, self.position)


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
    findings, missing = list(documents.findings), documents.missing
    packed, lonely = list[PackedFile](), 0
    for format_, (position, descriptor) in first_of_formats(carriers):
        name = f"{digest}{_ENDINGS[format_]}"
        fact = facts.get(name)
        if fact is not None and fact.plain and fact.size:
            packed.append(PackedFile(digest, format_, name, fact.size, descriptor, position))
            continue
        at = where(descriptor, position)
        found = quick_standing(files, fact, name, at)
        if found.finding is not None:
            if found.missing and len(missing) == 2:
                lonely += 1
                findings.append(_nothing_there(name, at))
            else:
                findings.append(found.finding)
        elif found.size is not None:
            packed.append(PackedFile(digest, format_, name, found.size, descriptor, position))
    if not lonely or packed:
        findings += missing
    return DigestCheck(tuple(findings), tuple(packed))


def check_usual(facts: Facts, digest: str, carriers: Carriers) -> tuple[PackedFile, ...]:
    """The packed files of a digest that has nothing wrong with it."""
    return tuple(
        PackedFile(digest, format_, name, facts[name].size, descriptor, position)
        for format_, (position, descriptor) in first_of_formats(carriers)
        for name in (f"{digest}{_ENDINGS[format_]}",)
    )


def files_of(carriers: Carriers) -> int:
    """How many files these entries of one digest have together."""
    return 2 + (1 if len(carriers) == 1 else len({descriptor.format for _, descriptor in carriers}))


def first_of_formats(carriers: Carriers) -> Iterable[tuple[PackedFormat, tuple[int | None, Descriptor]]]:
    """Each format of the digest once, with its first entry."""
    found: dict[PackedFormat, tuple[int | None, Descriptor]] = {}
    for carrier in carriers:
        format_ = _FORMATS.get(carrier[1].format)
        if format_ is not None and format_ not in found:
            found[format_] = carrier
    return found.items()


def _nothing_there(name: str, at: Where) -> Finding:
    seen = "none of its three files is there"
    return CATALOGUE["file-missing"].finding(seen, file=name, kind=FileKind.PACKED, **at)
