"""The descriptors of a sound index: what can be told of each without looking at the directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypedDict

from ocitui.cache import Descriptor, ImageIndex, ImageName, InvalidNameError
from ocitui.cache.files import known_format, usable_digest, usual_digest, valid_digest
from ocitui.cache.lookup import LATEST
from ocitui.cache.records import Identity

from ..catalogue import CATALOGUE
from ..findings import Answer, Finding

# Names that krata surely spells as they are, and resolves: without a host, or with one that is not the default.
_USUAL_NAME = re.compile(
    r"(?:(?!library/)[\w-]+|(?!mirror\.gcr\.io/)[\w-]+(?:\.[\w-]+)+/[\w-]+)(?:/[\w-]+)?(?::(?!latest\Z)[\w.-]+)?",
    re.ASCII,
).fullmatch


class Where(TypedDict):
    """What a finding says of its entry."""

    digest: str
    format: str
    name: str
    position: int | None


def where(descriptor: Descriptor, position: int | None = None) -> Where:
    return Where(
        digest=descriptor.digest, format=descriptor.format or "", name=descriptor.image_name or "", position=position
    )


class DescriptorChecks:
    """Checks index after index, quicker where a name was seen before."""

    def __init__(self) -> None:
        self._usual: set[str | None] = set()

    def check(self, index: ImageIndex, inferred: dict[str, str]) -> list[Finding]:
        """The findings, by position. ``inferred`` are formats of digests whose one packed file tells them."""
        findings: list[Finding] = []
        usual = self._usual
        for position, (digest, format_, name) in enumerate(zip(index.digests, index.formats, index.names, strict=True)):
            if name not in usual and name is not None and _USUAL_NAME(name):
                usual.add(name)
            if name not in usual or known_format(format_) is None or not usual_digest(digest):
                at = Where(digest=digest, format=format_ or "", name=name or "", position=position)
                findings += self._single(at, format_, name, inferred)
        winners = dict(zip(index.names, index.digests, strict=True))
        if len(winners) < len(index):
            findings += _repeated(index, winners)
        return sorted(findings, key=lambda finding: finding.position or 0)

    def _single(self, at: Where, format: str | None, name: str | None, inferred: dict[str, str]) -> Iterator[Finding]:
        digest = at["digest"]
        if not valid_digest(digest):
            fault = CATALOGUE["digest-invalid"]
            if not usable_digest(digest) and ".." in digest:
                outside = "it looks outside the cache, and a file there is a hit"
                seen = f"the digest {digest!r} leads out of the cache"
                yield fault.finding(seen, answer=Answer.HIT, daemon=outside, **at)
            else:
                seen = f"{digest!r} is not an algorithm, a colon and as many hexadecimal digits as that has"
                yield fault.finding(seen, **at)
            return
        if known_format(format) is None:
            seen = "it has no format" if format is None else f"the format {format!r} is none there is"
            hint = f"; the one packed file beside it is {inferred[digest]}" if digest in inferred else ""
            yield CATALOGUE["format-unknown"].finding(seen + hint, **at)
        if name is None:
            yield CATALOGUE["name-missing"].finding("it has no name", **at)
        elif problem := _name_problem(name):
            yield CATALOGUE[problem[0]].finding(problem[1], **at)
        else:
            self._usual.add(name)


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


def _repeated(index: ImageIndex, winners: dict[str | None, str]) -> Iterator[Finding]:
    """Entries that a later one repeats, and names that a later entry of another digest takes."""
    identities = [*zip(index.digests, index.formats, index.names, strict=True)]
    last: dict[Identity, int] = {identity: position for position, identity in enumerate(identities)}
    for position, (digest, format_, name) in enumerate(identities):
        if last[digest, format_, name] != position:
            seen = "a later entry has the same digest, format and name"
            at = Where(digest=digest, format=format_ or "", name=name or "", position=position)
            yield CATALOGUE["entry-duplicate"].finding(seen, **at)
        elif name is not None and winners[name] != digest:
            seen = f"the name resolves to the later entry {winners[name]}"
            at = Where(digest=digest, format=format_ or "", name=name, position=position)
            yield CATALOGUE["name-duplicate"].finding(seen, **at)
