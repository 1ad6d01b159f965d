"""One digest's entries, with care: their three files, what the documents say, and what the packed files' headers do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ocitui.cache import Descriptor, FileKind, PackedFormat
from ocitui.cache.listing import CacheFiles, Listing

from ..catalogue import CATALOGUE
from ..findings import Finding
from .descriptor_checks import Where, where
from .document_checks import Carriers, DocumentChecks, document_place
from .file_checks import look_at_header, packed_standing

_FORMATS: dict[str | None, PackedFormat] = {str(format_): format_ for format_ in PackedFormat}


class PackedFile(NamedTuple):
    """A packed file that is there, for the deeper checks; ``size`` in bytes."""

    digest: str
    format: PackedFormat
    size: int
    descriptor: Descriptor
    position: int | None = None

    @property
    def name(self) -> str:
        return f"{self.digest}.{self.format}"

    @property
    def at(self) -> Where:
        """What a finding says of its entry: the first of this digest and format."""
        return where(self.descriptor, self.position)


class DigestCheck(NamedTuple):
    """What is wrong with the files of a digest, into which of its packed files was looked, and why not into others."""

    findings: tuple[Finding, ...]
    looked_into: tuple[PackedFormat, ...]
    unchecked: tuple[tuple[str, str], ...]


def check_digest(
    files: CacheFiles, listing: Listing, digest: str, carriers: Carriers, *, headers: bool = True
) -> DigestCheck:
    """Check every file of a digest; reads its two documents, and looks into the packed files where ``headers``."""
    documents = DocumentChecks(files, listing, digest, carriers, document_place(carriers)).run()
    findings, missing = list(documents.findings), documents.missing
    looked, unchecked = list[PackedFormat](), list[tuple[str, str]]()
    there = lonely = 0
    for format_, (_, descriptor) in first_of_formats(carriers):
        name, at = f"{digest}.{format_}", where(descriptor)
        found = packed_standing(files, listing.get(name), name, at)
        if found.finding is not None:
            if found.missing and len(missing) == 2:
                lonely += 1
                findings.append(_nothing_there(at))
            else:
                findings.append(found.finding)
            continue
        there += 1
        if headers:
            look = look_at_header(files, name, format_, at)
            findings += look.findings
            unchecked += [(name, look.unchecked)] if look.unchecked else []
            looked += [format_] if look.read and not look.unchecked else []
    if not lonely or there:
        findings += missing
    return DigestCheck(tuple(findings), tuple(looked), tuple(unchecked))


def first_of_formats(carriers: Carriers) -> Iterable[tuple[PackedFormat, tuple[int | None, Descriptor]]]:
    """Each format of the digest once, with its first entry."""
    found: dict[PackedFormat, tuple[int | None, Descriptor]] = {}
    for carrier in carriers:
        format_ = _FORMATS.get(carrier[1].format)
        if format_ is not None and format_ not in found:
            found[format_] = carrier
    return found.items()


def _nothing_there(at: Where) -> Finding:
    return CATALOGUE["file-missing"].finding("none of its three files is there", kind=FileKind.PACKED, **at)
