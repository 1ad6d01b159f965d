"""The directory against the index: what nobody names, what does not belong, and what is odd about a name or a mode."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Iterator

from ocitui.cache import Descriptor, FileKind, PackedFormat
from ocitui.cache.files import INDEX_NAME, OWN_NAME, config_name, manifest_name, packed_name

from .catalogue import CATALOGUE
from .files import Fact, Facts
from .findings import Finding
from .holdings import Holdings, format_bits, named_bits, part_of

_OWN_PREFIX = OWN_NAME
_FORMATS = frozenset(str(format_) for format_ in PackedFormat)
_OURS = frozenset((INDEX_NAME, OWN_NAME))


def inferred_formats(holdings: Holdings, descriptors: Iterable[Descriptor]) -> dict[str, str]:
    """For each digest whose format is not known, the format of its packed file where there is exactly one."""
    inferred = {}
    for descriptor in descriptors:
        if descriptor.format not in _FORMATS:
            formats = holdings.formats(descriptor.digest)
            if len(formats) == 1:
                inferred[descriptor.digest] = str(formats[0])
    return inferred


def orphans(
    holdings: Holdings, descriptors: Iterable[Descriptor], spared: Collection[Descriptor] = ()
) -> Iterator[Finding]:
    """Files that no descriptor names; ``spared`` are descriptors that are to count too."""
    named: dict[str, int] = {}
    for source in (descriptors, spared):
        named_bits(source, named)
    for digest in holdings.unnamed(named):
        yield from _orphans_of(holdings, digest, named.get(digest))


def _orphans_of(holdings: Holdings, digest: str, named: int | None) -> Iterator[Finding]:
    whole = holdings.has_documents(digest)
    unnamed = [format_ for format_ in holdings.formats(digest) if not format_bits([format_]) & (named or 0)]
    for format_ in unnamed:
        yield _orphan(digest, format_, packed_name(digest, format_), FileKind.PACKED, whole=whole)
    if named is None and not (whole and unnamed):
        for kind in holdings.documents(digest):
            name = manifest_name(digest) if kind is FileKind.MANIFEST else config_name(digest)
            yield _orphan(digest, "", name, kind, whole=False)


def _orphan(digest: str, format: str, file: str, kind: FileKind, *, whole: bool) -> Finding:
    if whole:
        fault, seen = CATALOGUE["orphan-entry"], "a packed file with both documents, which no descriptor names"
    else:
        fault, seen = CATALOGUE["orphan-file"], "no descriptor names this file"
    return fault.finding(seen, digest=digest, format=format, file=file, kind=kind)


def strangers(facts: Facts, names: Iterable[str]) -> Iterator[Finding]:
    """What is neither an entry's file nor the index; ``names`` are those that no entry's file has."""
    for name in names:
        if name in _OURS:
            continue
        fact = facts.get(name)
        if name.startswith(_OWN_PREFIX):
            yield CATALOGUE["leftover-temporary"].finding("a temporary file of ocitui", file=name)
        elif fact is not None:
            yield CATALOGUE["unknown-file"].finding(f"{fact.word} that belongs to no entry", file=name)


def oddities(facts: Facts) -> Iterator[Finding]:
    """Files of entries, and the index, with a second name or a mode in which they cannot be read."""
    for name, fact in [(name, fact) for name, fact in facts.items() if not fact.plain]:
        part = part_of(name) if fact.regular else None
        if part is not None or (fact.regular and name == INDEX_NAME):
            yield from _odd(name, fact, part)


def _odd(name: str, fact: Fact, part: tuple[str, FileKind | PackedFormat] | None) -> Iterator[Finding]:
    digest, kind = part or ("", None)
    format_ = str(kind) if isinstance(kind, PackedFormat) else ""
    file_kind = FileKind.PACKED if isinstance(kind, PackedFormat) else kind
    if fact.links > 1:
        seen = f"the file has {fact.links} names"
        yield CATALOGUE["hardlinked"].finding(seen, digest=digest, format=format_, file=name, kind=file_kind)
    if not fact.mode & stat.S_IRUSR:
        seen = f"its mode is {stat.S_IMODE(fact.mode):04o}: its owner may not read it"
        yield CATALOGUE["wrong-mode"].finding(seen, digest=digest, format=format_, file=name, kind=file_kind)


def collisions(names: Collection[str]) -> Iterator[Finding]:
    """Names that are equal but for case."""
    first: dict[str, str] = {}
    for name in sorted(name for name in names if not name.islower()):
        folded = name.lower()
        if folded == name:
            continue
        other = folded if folded in names else first.setdefault(folded, name)
        if other != name:
            yield CATALOGUE["case-collision"].finding(f"{other!r} differs from it only in case", file=name)
