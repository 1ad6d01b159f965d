"""The descriptors of a sound index: what can be told of each without looking at the directory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypedDict

from ocitui.cache import Descriptor, ImageName, InvalidNameError, PackedFormat
from ocitui.cache.files import known_format, usable_digest
from ocitui.cache.lookup import LATEST

from ..catalogue import CATALOGUE
from ..findings import Answer, Finding

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([0-9a-fA-F]{32,})")
_USUAL_DIGEST = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
# Names that krata surely spells as they are, and resolves: without a host, or with one that is not the default.
_USUAL_NAME = re.compile(
    r"(?:(?!library/)[\w-]+|(?!mirror\.gcr\.io/)[\w-]+(?:\.[\w-]+)+/[\w-]+)(?:/[\w-]+)?(?::(?!latest\Z)[\w.-]+)?",
    re.ASCII,
).fullmatch
_FORMATS = frozenset(str(format_) for format_ in PackedFormat)
Identity = tuple[str, str | None, str | None]


class Where(TypedDict):
    """What a finding says of its entry."""

    digest: str
    format: str
    name: str
    position: int | None


def where(descriptor: Descriptor, position: int | None) -> Where:
    return Where(
        digest=descriptor.digest,
        format=descriptor.format or "",
        name=descriptor.image_name or "",
        position=position,
    )


def valid_digest(digest: str) -> bool:
    """Whether it is ``algorithm:hex`` of the algorithm's length."""
    if _USUAL_DIGEST(digest):
        return True
    found = _DIGEST.fullmatch(digest)
    return found is not None and len(found[2]) == _HEX_DIGITS.get(found[1], len(found[2])) and usable_digest(digest)


class DescriptorChecks:
    """Checks index after index, quicker where a name was seen before."""

    def __init__(self) -> None:
        self._usual: set[str | None] = set()

    def check(self, descriptors: Sequence[Descriptor], inferred: dict[str, str]) -> list[Finding]:
        """The findings, by position. ``inferred`` are formats of digests whose one packed file tells them."""
        findings: list[Finding] = []
        last: dict[Identity, int] = {}
        winners: dict[str | None, str] = {}
        usual = self._usual
        for position, descriptor in enumerate(descriptors):
            digest, format_, name = descriptor.digest, descriptor.format, descriptor.image_name
            last[digest, format_, name] = position
            winners[name] = digest
            if name not in usual and name is not None and _USUAL_NAME(name):
                usual.add(name)
            if name not in usual or format_ not in _FORMATS or not _USUAL_DIGEST(digest):
                findings += self._single(descriptor, position, inferred)
        if len(last) < len(descriptors) or len(winners) < len(descriptors):
            findings += _repeated(descriptors, last, winners)
        return sorted(findings, key=lambda finding: finding.position or 0)

    def _single(self, descriptor: Descriptor, position: int, inferred: dict[str, str]) -> Iterator[Finding]:
        at = where(descriptor, position)
        if not valid_digest(descriptor.digest):
            yield _digest_fault(descriptor.digest, at)
            return
        if known_format(descriptor.format) is None:
            yield _format_fault(descriptor, at, inferred.get(descriptor.digest, ""))
        if descriptor.image_name is None:
            yield CATALOGUE["name-missing"].finding("it has no name", **at)
        elif problem := _name_problem(descriptor.image_name):
            yield CATALOGUE[problem[0]].finding(problem[1], **at)
        else:
            self._usual.add(descriptor.image_name)


def _digest_fault(digest: str, at: Where) -> Finding:
    fault = CATALOGUE["digest-invalid"]
    if not usable_digest(digest) and ".." in digest:
        outside = "it looks outside the cache, and a file there is a hit"
        return fault.finding(f"the digest {digest!r} leads out of the cache", answer=Answer.HIT, daemon=outside, **at)
    return fault.finding(f"{digest!r} is not an algorithm, a colon and as many hexadecimal digits as that has", **at)


def _format_fault(descriptor: Descriptor, at: Where, inferred: str) -> Finding:
    seen = "it has no format" if descriptor.format is None else f"the format {descriptor.format!r} is none there is"
    hint = f"; the one packed file beside it is {inferred}" if inferred else ""
    return CATALOGUE["format-unknown"].finding(seen + hint, **at)


def _name_problem(name: str) -> tuple[str, str] | None:
    try:
        parsed = ImageName.parse(name)
    except InvalidNameError as error:
        return "name-not-canonical", error.message
    spelling = str(parsed)
    if spelling != name:
        return "name-not-canonical", f"the name is {name!r}, which krata spells {spelling!r}"
    if parsed.reference == LATEST:
        return "latest-never-resolves", f"the tag of {name!r} is {LATEST}"
    return None


def _repeated(
    descriptors: Sequence[Descriptor], last: dict[Identity, int], winners: dict[str | None, str]
) -> Iterator[Finding]:
    """Entries that a later one repeats, and names that a later entry of another digest takes."""
    for position, descriptor in enumerate(descriptors):
        digest, format_, name = descriptor.digest, descriptor.format, descriptor.image_name
        if last[digest, format_, name] != position:
            seen = "a later entry has the same digest, format and name"
            yield CATALOGUE["entry-duplicate"].finding(seen, **where(descriptor, position))
        elif name is not None and winners[name] != digest:
            seen = f"the name resolves to the later entry {winners[name]}"
            yield CATALOGUE["name-duplicate"].finding(seen, **where(descriptor, position))
